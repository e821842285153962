"""Which labels should a person look at first? Checks of label maps against their CT, ranked."""
