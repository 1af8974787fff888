"""What happened, in numbers and words: impact, the chain of one mail, the report for customers."""
