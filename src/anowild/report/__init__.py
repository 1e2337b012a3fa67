"""Station 7: verdicts -> what a person looks at. `gallery` draws, `page` writes HTML."""
