"""Drawing functions, one per kind of result. They take results and never compute them."""
