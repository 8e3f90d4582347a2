"""The instruction data that ships with heedful: `en.json`, `zh.json`, and the code that makes them."""
