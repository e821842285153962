"""Label maps in other tools' formats."""
