"""One file a wish: what web and workers call. Each function takes the transaction it acts in."""
