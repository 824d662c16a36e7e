"""The instructions: one block each, one file a family; `instruction.FAMILIES` lists the files."""
