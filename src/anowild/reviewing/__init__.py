"""Station 8: a person's decisions. `session` is what they look at, `store` keeps what they decide,
`rerank` learns from it, `app` is the page in a browser, `export` takes the decisions away.
"""
