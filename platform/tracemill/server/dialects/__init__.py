"""The APIs that the server speaks: each reads requests and writes answers, streams and errors."""
