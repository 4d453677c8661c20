"""The named recipes, a file each: `about`, what a person wants to know of it, and `recipe`, from facts to a Recipe."""
