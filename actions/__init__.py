"""ACT: what the assistant looks up and does in the company's systems. One topic a file."""
