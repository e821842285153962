"""Who says so? Corrections, the ledger of labels, and the server for people."""
