"""Writing token caches and TFDS datasets once, resumably."""
