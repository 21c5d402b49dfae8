"""Where candidates are evaluated: in this process or in Ray workers."""
