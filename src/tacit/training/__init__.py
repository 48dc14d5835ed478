"""The Trainer subclasses, one file per method that needs one."""
