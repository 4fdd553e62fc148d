"""ACT: the actions, by which the assistant reads and changes data in the company's systems. A file has one topic."""
