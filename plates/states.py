"""The five states of a cell: their order, their colours and their letters, the same everywhere."""

STATES = ("apoptosis", "necroptosis", "necrosis", "live-control", "live-treated")
DEAD = STATES[:3]
BACKGROUND = "background"

# Okabe and Ito's colour-blind-safe set; the letter is the second channel where colour fails.
COLOURS = {
    "apoptosis": "#D55E00",
    "necroptosis": "#CC79A7",
    "necrosis": "#0072B2",
    "live-control": "#8A8A8A",
    "live-treated": "#E69F00",
}
LETTERS = {
    "apoptosis": "A",
    "necroptosis": "P",
    "necrosis": "N",
    "live-control": "C",
    "live-treated": "T",
}
