"""One module and one template for each page, named as its URL."""
