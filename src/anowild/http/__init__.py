"""What the servers of the review and of the scoring service have in common.

`listening` opens sockets and runs servers, `limits` bounds their connections, and `security` says who may ask.
"""
