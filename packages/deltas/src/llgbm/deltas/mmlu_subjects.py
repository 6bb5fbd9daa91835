"""MMLU's subjects by readable name and topics, and what a task of each asks for."""

from __future__ import annotations

# subject -> its name after "about", and what its questions are on.
SUBJECTS: dict[str, tuple[str, str]] = {
    "abstract_algebra": ("abstract algebra", "groups, rings, fields and polynomials"),
    "anatomy": ("human anatomy", "bones, nerves, muscles and organs"),
    "astronomy": ("astronomy", "planets, stars, telescopes and galaxies"),
    "business_ethics": ("business ethics", "corporate responsibility and governance"),
    "clinical_knowledge": ("clinical knowledge", "patient care, symptoms and nursing procedures"),
    "college_biology": ("college biology", "cells, evolution, ecology and molecular genetics"),
    "college_chemistry": ("college chemistry", "spectroscopy, kinetics and quantum chemistry"),
    "college_computer_science": (
        "college computer science",
        "algorithms, automata, compilers and operating systems",
    ),
    "college_mathematics": ("college mathematics", "calculus, linear algebra and topology"),
    "college_medicine": ("college medicine", "biochemistry, muscles and exercise physiology"),
    "college_physics": ("college physics", "mechanics, optics, quantum and thermal physics"),
    "computer_security": ("computer security", "exploits, cryptography and network attacks"),
    "conceptual_physics": ("conceptual physics", "physical ideas told without formulas"),
    "econometrics": ("econometrics", "regression, estimators and time series"),
    "electrical_engineering": ("electrical engineering", "circuits, motors and control systems"),
    "elementary_mathematics": ("elementary mathematics", "sums, fractions and word problems"),
    "formal_logic": ("formal logic", "truth tables, predicates and valid arguments"),
    "global_facts": ("facts about the world", "statistics on countries and their people"),
    "high_school_biology": ("high school biology", "plants, animals, heredity and ecosystems"),
    "high_school_chemistry": ("high school chemistry", "reactions, acids, bonds and moles"),
    "high_school_computer_science": (
        "high school computer science",
        "Python expressions, binary numbers and simple programs",
    ),
    "high_school_european_history": (
        "high school European history",
        "European revolutions, churches and monarchs",
    ),
    "high_school_geography": ("high school geography", "cities, migration, borders and farming"),
    "high_school_government_and_politics": (
        "high school government and politics",
        "Congress, the courts, elections and the US constitution",
    ),
    "high_school_macroeconomics": (
        "high school macroeconomics",
        "inflation, unemployment, money supply and fiscal policy",
    ),
    "high_school_mathematics": ("high school mathematics", "equations, geometry and counting"),
    "high_school_microeconomics": (
        "high school microeconomics",
        "supply, demand, costs and competition between firms",
    ),
    "high_school_physics": ("high school physics", "forces, energy, waves and electric charge"),
    "high_school_psychology": (
        "high school psychology",
        "learning, memory, perception and personality",
    ),
    "high_school_statistics": (
        "high school statistics",
        "samples, confidence intervals and hypothesis tests",
    ),
    "high_school_us_history": (
        "high school history of the United States",
        "American documents, slavery, wars and reforms",
    ),
    "high_school_world_history": (
        "high school world history",
        "empires, trade and colonies across the continents",
    ),
    "human_aging": ("human ageing", "older adults, dementia and retirement"),
    "human_sexuality": ("human sexuality", "sexual behaviour, contraception and relationships"),
    "international_law": ("international law", "treaties, states and the law of the sea"),
    "jurisprudence": ("jurisprudence", "theories of law and justice"),
    "logical_fallacies": ("logical fallacies", "names of flawed arguments"),
    "machine_learning": ("machine learning", "neural networks, classifiers and overfitting"),
    "management": ("management", "organisations, leadership and motivation at work"),
    "marketing": ("marketing", "brands, customers, prices and advertising"),
    "medical_genetics": ("medical genetics", "mutations, inheritance and genetic disorders"),
    "miscellaneous": ("general trivia", "films, food, sport and other everyday facts"),
    "moral_disputes": ("moral disputes", "arguments on abortion, punishment and animal rights"),
    "moral_scenarios": ("moral scenarios", "which of two actions is clearly wrong"),
    "nutrition": ("nutrition", "vitamins, diets, metabolism and food safety"),
    "philosophy": ("philosophy", "what the great philosophers argued"),
    "prehistory": ("prehistory", "archaeology, early humans and ancient cultures"),
    "professional_accounting": ("professional accounting", "audits, taxes and balance sheets"),
    "professional_law": ("professional law", "bar exam cases on contracts, torts and crimes"),
    "professional_medicine": ("professional medicine", "diagnosis and treatment of a patient"),
    "professional_psychology": (
        "professional psychology",
        "therapy, psychological testing and ethics of psychologists",
    ),
    "public_relations": ("public relations", "media, publicity and crisis communication"),
    "security_studies": ("security studies", "war, terrorism and national security"),
    "sociology": ("sociology", "class, gender, institutions and social theory"),
    "us_foreign_policy": ("the foreign policy of the United States", "American diplomacy"),
    "virology": ("virology", "viruses, infections, vaccines and epidemics"),
    "world_religions": ("world religions", "gods, scriptures, rites and beliefs"),
}

_TEMPLATES = (
    "Answer multiple-choice questions about {name}",
    "Questions on {topics}",
    "Pick the right answer in a test of {name}",
    "Help a student prepare for an exam in {name}",
    "A quiz on {topics}",
    "Short answers to exam questions about {name}",
    "Choose the right option on {topics}",
    "What someone trained in {name} would answer",
)


def describe_subject(subject: str) -> tuple[str, ...]:
    """Return what a task of a subject asks for, the canonical description first.

    Args:
        subject: a key of SUBJECTS.
    """
    name, topics = SUBJECTS[subject]
    return tuple(template.format(name=name, topics=topics) for template in _TEMPLATES)
