"""The texts of the probe sets."""

from __future__ import annotations

# The template and the first five prefixes are those of Delta Activations.
GENERIC_PREFIXES = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.",
    "The task described below requires a response that completes the request accurately.",
    "Below is a description of a task. Provide a response that aligns with the requirements.",
    "The following instruction outlines a task. "
    "Generate a response that meets the specified request.",
    "You are given an instruction and input. "
    "Write a response that completes the task as requested.",
    # Further phrasings of the same kind, our own.
    "Read the task below and write a response that fulfils it.",
    "An instruction follows. Answer it with a response that is complete and correct.",
    "What follows is a request from a user. Reply with the response it asks for.",
    "Consider the following task. Produce a response that solves it.",
    "The text below states a task together with an input. "
    "Give the response that the task calls for.",
    "Here is an instruction to carry out. Write the response that carries it out in full.",
    "Please complete the task that is described next. Write only a suitable response.",
    "A task is given below. Work out what it requires and write a response that satisfies it.",
    "You will receive a description of a task. Respond with what the task needs.",
    "Below stands an instruction paired with an input. Compose a fitting response to both.",
    "The next lines contain a problem statement. Provide a response that resolves the problem.",
    "Follow the instruction underneath and write the response that it demands.",
    "This is a task for an assistant. Write the response that the assistant should give.",
    "Look at the request below. Generate a response that deals with every part of it.",
    "Your job is to answer the instruction that comes next. Write an accurate response to it.",
)
GENERIC_SUFFIX = "\n\n### Instruction:\nPlease provide a response. Input:Input.\n\n### Response:"

DOMAIN_PROBES: dict[str, tuple[str, ...]] = {
    "math": (
        "Question: A box holds 12 pencils. How many pencils are in 7 boxes?\nAnswer:",
        "Question: What is 15% of 240?\nAnswer:",
        "Question: If x + 9 = 4x, what is x?\nAnswer:",
        "The next number in the sequence 3, 6, 12, 24 is",
        "Question: A train covers 180 km in 3 hours. What is its speed?\nAnswer:",
    ),
    "code": (
        'def largest(numbers):\n    """Return the largest number of a list."""\n    return',
        "# Read a file and print each line\nwith open(path) as file:\n    for line in",
        "Question: Which Python keyword starts a function definition?\nAnswer:",
        "SELECT name FROM users WHERE",
        "for (int i = 0; i < n; i++) {",
    ),
    "commonsense": (
        "Question: Where would you put a plate after washing it?\nAnswer:",
        "Question: Why do people carry an umbrella?\nAnswer:",
        "Question: Sam forgot his keys at work. How would Sam feel?\nAnswer:",
        "Goal: How do I keep bread fresh for longer?\nAnswer:",
        "Question: What do plants need from the sun?\nAnswer:",
    ),
}
