"""The text the first student is trained on: seeded chats, every word written by this project.

    python3 school/corpus.py --seed 1 --chats 12      prints some chats

`chats(seed, count)` yields lists of (role, text). The same seed gives the same chats on every machine.
The question side is varied on purpose (phrasings, case, punctuation, typing slips) and the answer side is
not: a network this small learns one crisp answer to many questions, and blurs many answers into none.
"""
import argparse
import random
import re

from ideas import ASKED, DONT_KNOW, MORE, NO_SENSES, SELF, SMALLTALK, TOO_BIG, TOPICS, UNCLEAR, WHAT
from words import *

INNERMOST = re.compile(r"\[([^\[\]]*)\]")


def say(r, pattern):
    """Expands `[a|b]` alternatives, innermost first."""
    while True:
        m = INNERMOST.search(pattern)
        if not m:
            return pattern
        pattern = pattern[: m.start()] + r.choice(m.group(1).split("|")) + pattern[m.end():]


def alternatives(pattern):
    """The top-level alternatives of a flat `[a|b]`."""
    return pattern[1:-1].split("|")


def an(word):
    return ("an " if word[0] in "aeiou" else "a ") + word


def cap(text):
    return text[:1].upper() + text[1:]


def slip(r, text):
    """One typing slip: a letter doubled, dropped, or swapped with its neighbour."""
    spots = [i for i in range(1, len(text) - 1) if text[i - 1: i + 2].isalpha()]
    if not spots:
        return text
    i = r.choice(spots)
    kind = r.randrange(3)
    if kind == 0:
        return text[:i] + text[i] + text[i:]
    if kind == 1:
        return text[:i] + text[i + 1:]
    return text[:i] + text[i + 1] + text[i] + text[i + 2:]


QUESTION = re.compile(r"^(what|who|where|when|why|how|which|is|are|do|does|can|could|will|may|did|was|were|am|and what|and who|so what|in short)\b", re.I)


def rough(r, text, exact=False):
    """A question as people type it. `exact` keeps case and letters, for tasks about the letters."""
    if not exact:
        x = r.random()
        if x < 0.55:
            text = cap(re.sub(r"\bi\b", "I", text))
        elif x < 0.60:
            text = text.lower()
        elif x < 0.615:
            text = text.upper()
    x = r.random()
    if text[-1:].isalnum():
        question = bool(QUESTION.match(text))
        if x < 0.6:
            text += "?" if question else r.choice([".", ".", "", "!"])
        elif x < 0.63:
            text += r.choice(["??", "...", "!", " ?"])
    if exact:
        return text
    x = r.random()
    if x < 0.07:
        text = r.choice(["Hey, ", "Please, ", "Ok, ", "So, ", "Hi! ", "Well, ", "Um, ", "First, ", "Tell me: ", "Hello. ", "Quick question: ", "Now ", "And "]) + text
    elif x < 0.10:
        text = text.rstrip(".?!") + r.choice([" please", ", please?", " thanks", " then?", " exactly?", ", First?"])
    if r.random() < 0.06:
        text = slip(r, text)
    return text


# --- one exchange each: a list of (user, assistant) pairs -------------------------------------------------

def small_talk(r):
    q, a = r.choice(SMALLTALK)
    return [(rough(r, say(r, q)), r.choice(a))]


def hello(r):
    q, a = SMALLTALK[0]
    return [(rough(r, say(r, q)), a[0] if r.random() < 0.8 else a[1])]


def asked(r):
    q, a = r.choice(ASKED)
    return [(rough(r, say(r, q)), r.choice(a))]


def identity(r):
    q, a = r.choice(ASKED[:17])
    return [(rough(r, say(r, q)), r.choice(a))]


# the three questions, by their place in TOPICS, for "and how is it different from ...?"
COMPARED = {2: "distillation", 5: "quantization", 6: "fine-tuning"}
DIFFERENCE = {frozenset(pair): next(a[0] for q, a in ASKED if q.startswith(f"[what is the difference between {name}|"))
              for pair, name in [((2, 5), "distillation and quantization"), ((2, 6), "distillation and fine-tuning"), ((5, 6), "fine-tuning and quantization")]}


def topic(r):
    i = r.randrange(len(TOPICS))
    names, what, more = TOPICS[i]
    turns = [(rough(r, say(r, WHAT).replace("X", say(r, names))), what)]
    if i in COMPARED and r.random() < 0.4:
        j = r.choice([k for k in COMPARED if k != i])
        q = say(r, f"[and how is it different from X|how is that different from X|what is the difference to X|is it the same as X|is that the same as X|how does it compare with X|and X, is that the same|how does it differ from X|how is it different from X]")
        turns.append((rough(r, q.replace("X", COMPARED[j])), DIFFERENCE[frozenset((i, j))]))
    if r.random() < 0.35:
        turns.append((rough(r, say(r, MORE)) if len(turns) == 1 else rough(r, f"tell me more about {COMPARED[i]}"), more))
        if r.random() < 0.1:
            turns.append((rough(r, say(r, MORE)), "That is all I know about it. A larger student knows more."))
    return turns


PLUS = "[what is A + B|A + B|A+B|A plus B|what is A plus B|how much is A + B|how much is A and B|add A and B|calculate A + B|compute A+B|A + B =|what's A+B|can you add A and B|sum of A and B|what is the sum of A and B|add B to A]"
MINUS = "[what is A - B|A - B|A-B|A minus B|what is A minus B|how much is A - B|take B from A|subtract B from A|calculate A - B|compute A-B|A - B =|what's A-B|take B away from A|what is A less B|what is left if i take B from A]"
THINGS = "apples pears books balls coins cups eggs stars pens cards shells nuts stones flowers keys".split()


def fill(text, **slots):
    for k, v in slots.items():
        text = re.sub(r"\b%s\b" % k, str(v), text)
    return text


def sums(r):
    if r.random() < 0.55:
        if r.random() < 0.6:
            c = r.randint(0, 20)
            a = r.randint(0, c)
        else:
            a, c = r.randint(0, 20), 0
            c = a + r.randint(0, 20)
        b, op, pattern = c - a, "+", PLUS
    else:
        a = r.randint(0, 20)
        b = r.randint(0, a if r.random() < 0.85 else 20)
        c, op, pattern = a - b, "-", MINUS
    words = r.random() < 0.25
    q = say(r, pattern)
    if words and not re.search(r"[+\-=]", q):
        q = fill(q, A=NUMBER[a], B=NUMBER[b])
    else:
        q = q.replace("A", str(a)).replace("B", str(b))
    turns = [(rough(r, q), f"{a} {op} {b} = **{c}**")]
    if r.random() < 0.2:
        if r.random() < 0.5 and c < 20:
            d = r.randint(1, min(9, 20 - c))
            turns.append((rough(r, say(r, f"[and plus {d}|add {d} to that|now add {d}|plus {d}|and {d} more|add {d}]")), f"{c} + {d} = **{c + d}**"))
        elif c > 0:
            d = r.randint(1, min(9, c))
            turns.append((rough(r, say(r, f"[and minus {d}|take {d} from that|now subtract {d}|minus {d}|and {d} less|take away {d}]")), f"{c} - {d} = **{c - d}**"))
    return turns


def word_sum(r):
    who = r.choice(NAMES)
    thing = r.choice(THINGS)
    if r.random() < 0.5:
        c = r.randint(2, 20)
        a = r.randint(1, c - 1)
        b = c - a
        q = say(r, f"[{who} has {a} {thing} and gets {b} more. How many {thing} does {who} have now?|I have {a} {thing} and get {b} more. How many do I have?|"
                   f"There are {a} {thing} on the table. {who} puts {b} more there. How many are there?|{who} finds {a} {thing} and then {b} more {thing}. How many in all?]")
        return [(q, f"{a} + {b} = **{c}** {thing}")]
    a = r.randint(2, 20)
    b = r.randint(1, a)
    q = say(r, f"[{who} has {a} {thing} and gives {b} away. How many {thing} are left?|I have {a} {thing} and lose {b}. How many do I have?|"
               f"There are {a} {thing} on the table. {who} takes {b}. How many are left?|{who} had {a} {thing} and sold {b}. How many does {who} have now?]")
    return [(q, f"{a} - {b} = **{a - b}** {thing}")]


def too_big(r):
    kind = r.randrange(4)
    if kind == 0:
        a, b = r.randint(21, 999), r.randint(2, 999)
        q = say(r, PLUS).replace("A", str(a)).replace("B", str(b))
    elif kind == 1:
        a, b = r.randint(21, 999), r.randint(2, 99)
        q = say(r, MINUS).replace("A", str(a)).replace("B", str(b))
    else:
        a, b = r.randint(2, 200), r.randint(2, 99)
        q = say(r, f"[what is {a} times {b}|{a} * {b}|{a} x {b}|{a} divided by {b}|what is {a} / {b}|multiply {a} by {b}|divide {a} by {b}|the square root of {a}|what is {a} percent of {b}|{a} to the power of {b}|how much is {a} * {b}|{a}*{b}|what is {a} squared|{a} times {b}]")
    return [(rough(r, q), TOO_BIG)]


def counting(r):
    kind = r.randrange(7)
    if kind == 0:
        a = r.randint(0, 12)
        b = r.randint(a + 2, min(20, a + 10))
        q = say(r, f"[count from {a} to {b}|count {a} to {b}|can you count from {a} to {b}|please count from {a} to {b}|say the numbers from {a} to {b}|list the numbers from {a} to {b}|numbers from {a} to {b}]")
        return [(rough(r, q), ", ".join(map(str, range(a, b + 1))))]
    if kind == 1:
        b = r.randint(3, 20)
        a = r.randint(max(0, b - 10), b - 2)
        q = say(r, f"[count down from {b} to {a}|count backwards from {b} to {a}|count back from {b} to {a}|count from {b} down to {a}|count from {b} to {a}]")
        return [(rough(r, q), ", ".join(map(str, range(b, a - 1, -1))))]
    if kind == 2:
        b = r.randint(2, 12)
        q = say(r, f"[count to {b}|can you count to {b}|please count to {b}|count up to {b}|count until {b}]")
        return [(rough(r, q), ", ".join(map(str, range(1, b + 1))))]
    if kind == 3:
        a = r.randint(0, 19)
        q = say(r, f"[what comes after {a}|which number comes after {a}|what number is after {a}|the number after {a}|what is the next number after {a}|what follows {a}]")
        return [(rough(r, q), f"After {a} comes **{a + 1}**.")]
    if kind == 4:
        a = r.randint(1, 20)
        q = say(r, f"[what comes before {a}|which number comes before {a}|what number is before {a}|the number before {a}]")
        return [(rough(r, q), f"Before {a} comes **{a - 1}**.")]
    if kind == 5:
        a, b = r.sample(range(21), 2)
        if r.random() < 0.5:
            q, c, w = f"[which is bigger, {a} or {b}|what is more, {a} or {b}|which number is larger, {a} or {b}|{a} or {b}, which is bigger|is {a} or {b} bigger|which is greater, {a} or {b}]", max(a, b), "bigger"
        else:
            q, c, w = f"[which is smaller, {a} or {b}|what is less, {a} or {b}|which number is smaller, {a} or {b}|{a} or {b}, which is smaller|is {a} or {b} smaller]", min(a, b), "smaller"
        return [(rough(r, say(r, q)), f"**{c}** is {w}.")]
    a = r.randint(1, 20)
    q = say(r, f"[is {a} even or odd|is {a} odd or even|is {a} an even number|is {a} odd|is {a} even]")
    return [(rough(r, q), f"{a} is **{'odd' if a % 2 else 'even'}**.")]


def opposites(r):
    def pair():
        a, b = r.choice(OPPOSITES)
        if a == "light" or b == "light":
            a, b = ("dark", "light") if r.random() < 0.5 else ("light", "dark")
            return a, b
        return (a, b) if r.random() < 0.5 else (b, a)
    a, b = pair()
    turns = [(rough(r, fill(say(r, "[what is the opposite of W|opposite of W|the opposite of W|what's the opposite of W|give me the opposite of W|what is the contrary of W|tell me the opposite of W|which word is the opposite of W|W. what is the opposite|not W but|antonym of W]"), W=r.choice([a, a, f"'{a}'", f'"{a}"']))), f"The opposite of {a} is **{b}**.")]
    while r.random() < 0.3:
        a, b = pair()
        turns.append((rough(r, say(r, f"[and of {a}|and {a}|and the opposite of {a}|what about {a}|now {a}|{a}|and for {a}]")), f"The opposite of {a} is **{b}**."))
    return turns


def colours(r):
    if r.random() < 0.2:
        a, b, c = r.choice(MIX)
        if r.random() < 0.5:
            a, b = b, a
        q = say(r, f"[what do {a} and {b} make|mix {a} and {b}|what colour do you get from {a} and {b}|what happens when i mix {a} and {b}|{a} and {b} make|what is {a} plus {b}|which color do {a} and {b} make]")
        return [(rough(r, q), f"{cap(a)} and {b} make **{c}**.")]
    turns = []
    for i in range(r.choice([1, 1, 1, 2])):
        thing = r.choice(list(COLOUR_OF))
        bare = re.sub(r"^(an?|the) ", "", thing)
        q = (f"[what [colour|color] is {thing}|which [colour|color] is {thing}|what [colour|color] does {thing} have|the [colour|color] of {thing}|what is the [colour|color] of {thing}|tell me the [colour|color] of {thing}|what [colour|color] is {bare}]"
             if i == 0 else f"[and {thing}|what about {thing}|and what about {thing}|and {bare}|{thing}]")
        turns.append((rough(r, say(r, q)), f"{cap(thing)} is **{COLOUR_OF[thing]}**."))
    return turns


def calendar(r):
    table, one, many = (DAYS, "day", "days") if r.random() < 0.6 else (MONTHS, "month", "months")
    n = len(table)
    i = r.randrange(n)
    kind = r.randrange(6)
    if kind <= 1:
        turns = [(rough(r, say(r, f"[what {one} comes after {table[i]}|which {one} is after {table[i]}|what is the {one} after {table[i]}|what comes after {table[i]}|the {one} after {table[i]}|which {one} follows {table[i]}]")), f"After {table[i]} comes **{table[(i + 1) % n]}**.")]
        if r.random() < 0.3:
            turns.append((rough(r, say(r, "[and after that|and then|and the next one|what comes next|and after that one|next]")), f"After {table[(i + 1) % n]} comes **{table[(i + 2) % n]}**."))
        return turns
    if kind == 2:
        return [(rough(r, say(r, f"[what {one} comes before {table[i]}|which {one} is before {table[i]}|what is the {one} before {table[i]}|what comes before {table[i]}|the {one} before {table[i]}]")), f"Before {table[i]} comes **{table[i - 1]}**.")]
    if kind == 3 and one == "day":
        if r.random() < 0.5:
            return [(rough(r, say(r, f"[today is {table[i]}. what day is tomorrow|if today is {table[i]}, what is tomorrow|it is {table[i]} today, what day is it tomorrow|today is {table[i]}, and tomorrow]")), f"Tomorrow is **{table[(i + 1) % n]}**.")]
        return [(rough(r, say(r, f"[today is {table[i]}. what day was yesterday|if today is {table[i]}, what was yesterday|it is {table[i]} today, what day was it yesterday|today is {table[i]}, and yesterday]")), f"Yesterday was **{table[i - 1]}**.")]
    if kind == 4:
        return [(rough(r, say(r, f"[name the {many}{' of the week' if one == 'day' else ' of the year'}|list the {many}|what are the {many}{' of the week' if one == 'day' else ''}|tell me the {many}|which {many} are there|say all {many}|the {many}{' of the week' if one == 'day' else ''}, please]")),
                 ", ".join(table))]
    return [(rough(r, say(r, f"[which {one} is the {ORDINAL[i]}|what is the {ORDINAL[i]} {one}|the {ORDINAL[i]} {one}|what is the {ORDINAL[i]} {one} of the {'week' if one == 'day' else 'year'}|which is {one} number {i + 1}]")), f"The {ORDINAL[i]} {one} is **{table[i]}**.")]


def case_of(r, w):
    return r.choice([w, w, w, cap(w), f"'{w}'", f'"{w}"', w.upper() if r.random() < 0.1 else w])


def spelling(r):
    w = r.choice(SPELL)
    kind = r.choice([0, 0, 1, 1, 2, 2, 3, 4])
    if kind == 0:
        w = r.choice([w, w, r.choice(NAMES).lower()])
        q = f"[write {case_of(r, w)} in capitals|write {case_of(r, w)} in upper case|{case_of(r, w)} in capital letters|make {case_of(r, w)} upper case|upper case: {w}|uppercase {case_of(r, w)}|turn {case_of(r, w)} into capitals|put {case_of(r, w)} in capitals|write the word {case_of(r, w)} in capital letters|say {case_of(r, w)} in upper case|capitalise {w}|{w} in upper case]"
        a = w.upper()
    elif kind == 1:
        q = f"[reverse {case_of(r, w)}|write {case_of(r, w)} backwards|spell {case_of(r, w)} backwards|reverse the word {case_of(r, w)}|what is {case_of(r, w)} backwards|{case_of(r, w)} backwards|turn {case_of(r, w)} around|what is the reverse of {case_of(r, w)}|say {case_of(r, w)} in reverse|write {case_of(r, w)} in reverse]"
        a = w[::-1]
    elif kind == 2:
        q = f"[spell {case_of(r, w)}|how do you spell {case_of(r, w)}|spell the word {case_of(r, w)}|can you spell {case_of(r, w)}|how is {case_of(r, w)} spelled|how is {case_of(r, w)} written|what are the letters of {case_of(r, w)}]"
        a = "-".join(w)
    elif kind == 3:
        q = f"[how many letters are in {case_of(r, w)}|how many letters has {case_of(r, w)}|count the letters in {case_of(r, w)}|how long is the word {case_of(r, w)}|how many letters does {case_of(r, w)} have]"
        a = f"The word {w} has **{len(w)}** letters."
    else:
        if r.random() < 0.5:
            q, a = f"[what is the first letter of {case_of(r, w)}|first letter of {case_of(r, w)}|which letter does {case_of(r, w)} start with|what does {case_of(r, w)} begin with]", f"The first letter of {w} is **{w[0]}**."
        else:
            q, a = f"[what is the last letter of {case_of(r, w)}|last letter of {case_of(r, w)}|which letter does {case_of(r, w)} end with|what does {case_of(r, w)} end with]", f"The last letter of {w} is **{w[-1]}**."
    return [(rough(r, say(r, q).replace("'''", "'"), exact=r.random() < 0.6), a)]


def lower(r):
    w = r.choice(SPELL)
    q = say(r, f"[write {w.upper()} in lower case|{w.upper()} in small letters|make {w.upper()} lower case|lowercase {w.upper()}|write {w.upper()} in small letters|put {w.upper()} in lower case]")
    return [(rough(r, q, exact=True), w)]


def fact(r):
    kind = r.randrange(12)
    if kind <= 1:
        return capital(r)
    if kind == 2:
        a = r.choice(list(SOUNDS))
        return [(rough(r, say(r, f"[what does {an(a)} say|what sound does {an(a)} make|what noise does {an(a)} make|which sound does the {a} make|how does {an(a)} sound|what does the {a} say|the sound of {an(a)}|what do {PLURALS.get(a, a + 's')} say]")), f"{cap(an(a))} says **{SOUNDS[a]}**.")]
    if kind == 3:
        turns = []
        for i in range(r.choice([1, 1, 2])):
            a = r.choice(list(LEGS))
            q = f"[how many legs does {an(a)} have|how many legs has {an(a)}|number of legs of {an(a)}|how many legs does the {a} have]" if i == 0 else f"[and {an(a)}|what about {an(a)}|and the {a}|{an(a)}]"
            n = LEGS[a]
            body = f"{cap(an(a))} has **{n}** legs." if n else f"{cap(an(a))} has **no** legs" + (", but 8 arms." if a == "octopus" else ".")
            turns.append((rough(r, say(r, q)), body))
        return turns
    if kind == 4:
        a = r.choice(list(BABY))
        return [(rough(r, say(r, f"[what is a baby {a} called|what is the baby of {an(a)}|how do you call a baby {a}|what do you call a young {a}|a baby {a} is called|the young of {an(a)}|what is the child of {an(a)}|name of a baby {a}]")), f"A baby {a} is called a **{BABY[a]}**.")]
    if kind == 5:
        a = r.choice(list(SIDES))
        return [(rough(r, say(r, f"[how many sides does {an(a)} have|how many sides has {an(a)}|number of sides of {an(a)}|how many corners does {an(a)} have]" if a not in ("cube", "circle") else f"[how many sides does {an(a)} have|how many sides has {an(a)}]")),
                 f"{cap(an(a))} has **{SIDES[a]}** sides." if SIDES[a] else "A circle has **no** sides: it is round.")]
    if kind == 6:
        (a, b), n = r.choice(list(HOW_MANY.items()))
        turns = [(rough(r, say(r, f"[how many {a} are in {b}|how many {a} does {b} have|how many {a} has {b}|{a} in {b}|how many {a} are there in {b}|how many {a} in {b}]")), f"There are **{n}** {a} in {b}." if n[0].isdigit() and "," not in n else f"There are **{n}**, {a} in {b}.")]
        if "," in n:
            turns = [(turns[0][0], "February has **28** days, or 29 in a leap year.")]
        return turns
    if kind == 7:
        a = r.choice(list(PLURALS))
        return [(rough(r, say(r, f"[what is the plural of {a}|plural of {a}|the plural of {a}|one {a}, two|how do you say more than one {a}|one {a}, many]")), f"One {a}, two **{PLURALS[a]}**.")]
    if kind == 8:
        k = r.choice(list(CATEGORY))
        w = r.choice(CATEGORY[k])
        if k in ("fruit", "vegetable") and r.random() < 0.5:
            q = f"[is {an(w)} a fruit or a vegetable|is {an(w)} a vegetable or a fruit|fruit or vegetable: {w}|{w}: fruit or vegetable]"
        else:
            q = f"[what is {an(w)}|what kind of thing is {an(w)}|what sort of thing is {an(w)}|explain {an(w)}|do you know what {an(w)} is|tell me about {an(w)}]" if k not in ("drink", "colour", "sport") else f"[what is {w}|what kind of thing is {w}|what sort of thing is {w}|do you know {w}]"
        subject = cap(an(w)) if k not in ("drink", "colour", "sport") else cap(w)
        return [(rough(r, say(r, q)), f"{subject} is {an(k).replace(k, '**' + k + '**')}.")]
    if kind == 9:
        a, b = r.sample(range(len(BY_SIZE)), 2)
        if r.random() < 0.5:
            return [(rough(r, say(r, f"[which is bigger, {an(BY_SIZE[a])} or {an(BY_SIZE[b])}|what is bigger, {an(BY_SIZE[a])} or {an(BY_SIZE[b])}|who is bigger, {an(BY_SIZE[a])} or {an(BY_SIZE[b])}|is {an(BY_SIZE[a])} bigger than {an(BY_SIZE[b])}]")), f"{cap(an(BY_SIZE[max(a, b)]))} is bigger than {an(BY_SIZE[min(a, b)])}.")]
        return [(rough(r, say(r, f"[which is smaller, {an(BY_SIZE[a])} or {an(BY_SIZE[b])}|what is smaller, {an(BY_SIZE[a])} or {an(BY_SIZE[b])}|is {an(BY_SIZE[a])} smaller than {an(BY_SIZE[b])}]")), f"{cap(an(BY_SIZE[min(a, b)]))} is smaller than {an(BY_SIZE[max(a, b)])}.")]
    if kind == 10:
        a, b = r.choice(RHYMES)
        if r.random() < 0.5:
            a, b = b, a
        first = {}
        for x, y in RHYMES:  # one answer per word: the first that the table gives
            first.setdefault(x, y)
            first.setdefault(y, x)
        return [(rough(r, say(r, f"[what rhymes with {a}|a rhyme for {a}|which word rhymes with {a}|give me a rhyme for {a}|rhyme {a}|find a rhyme for {a}|a word that rhymes with {a}]")), f"{cap(a)} rhymes with **{first[a]}**.")]
    return misc_fact(r)


def misc_fact(r):
    q, _, a = r.choice(FACTS)
    return [(rough(r, say(r, q)), a)]


CAPITAL = "[what is the capital of X|capital of X|what's the capital of X|which city is the capital of X|the capital of X|tell me the capital of X|name the capital of X|do you know the capital of X|what is X's capital]"


def capital(r):
    turns = []
    for i in range(r.choice([1, 1, 1, 2, 3])):
        known = r.random() < 0.6
        c = r.choice(list(CAPITALS) if known else CAPITALS_UNKNOWN)
        q = CAPITAL if i == 0 else "[and of X|and X|what about X|and the capital of X|and what about X]"
        q = say(r, q).replace("X", c)
        turns.append((rough(r, q), f"The capital of {c} is **{CAPITALS[c]}**." if known else DONT_KNOW))
    return turns


def naming(r):
    k = r.choice(list(CATEGORY))
    table = CATEGORY[k]
    many = {"fruit": "fruits", "vegetable": "vegetables", "colour": r.choice(["colours", "colors"])}.get(k, k + "s")
    n = r.choice([3, 3, 3, 2, 4, 1])
    items = r.sample(table, n)
    if n == 1:
        turns = [(rough(r, say(r, f"[name {an(k)}|tell me {an(k)}|give me {an(k)}|say {an(k)}|name one {k}|an example of {an(k)}]")), f"**{cap(items[0])}**")]
        if r.random() < 0.4:
            other = r.choice([x for x in table if x != items[0]])
            turns.append((rough(r, say(r, "[another one|and another|one more|another|and one more|next one]")), f"**{cap(other)}**"))
        return turns
    num = r.choice([str(n), NUMBER[n]])
    turns = [(rough(r, say(r, f"[name {num} {many}|give me {num} {many}|tell me {num} {many}|list {num} {many}|say {num} {many}|can you name {num} {many}|{num} {many}, please|what are {num} {many}]")),
              "\n".join(f"{i + 1}. {x}" for i, x in enumerate(items)))]
    for _ in range(r.choice([0, 1, 1, 2])):
        i = r.randrange(n)
        if r.random() < 0.2:
            turns.append((rough(r, say(r, "[what was the last one|and the last one|which one was last|the last one]")), f"The last one is **{items[-1]}**."))
        else:
            turns.append((rough(r, say(r, f"[what was the {ORDINAL[i]} one|and the {ORDINAL[i]} one|the {ORDINAL[i]} one|which was the {ORDINAL[i]}|number {i + 1}|what is number {i + 1}|say the {ORDINAL[i]} one again]")), f"The {ORDINAL[i]} one is **{items[i]}**."))
    return turns


def remember(r):
    kind = r.randrange(5)
    if kind <= 1:  # the user's name
        n = r.choice(NAMES)
        turns = [(say(r, f"[My name is {n}.|my name is {n}|I am {n}.|I'm {n}|Hi, I am {n}.|Hello, my name is {n}.|call me {n}|Please call me {n}.|hi, i'm {n}|You can call me {n}.]"), f"Nice to meet you, {n}!")]
        if r.random() < 0.4:
            turns += r.choice([sums, opposites, colours, topic, small_fill, hello])(r)
        turns.append((rough(r, say(r, "[what is my name|what's my name|do you remember my name|who am i|do you know my name|what was my name|can you say my name|tell me my name]")), f"Your name is **{n}**."))
        return turns
    if kind == 2:  # a favourite thing
        k = r.choice(["colour", "fruit", "animal", "drink", "sport", "instrument"])
        w = r.choice(CATEGORY[k])
        turns = [(say(r, f"[My favourite {k} is {w}.|my favourite {k} is {w}|I like the {k} {w} best.|The {k} I like most is {w}.]"), f"{cap(w)} is a fine {k}.")]
        if r.random() < 0.3:
            turns += r.choice([sums, opposites, small_fill])(r)
        turns.append((rough(r, say(r, f"[what is my favourite {k}|which {k} do i like|which {k} do i like best|do you remember my favourite {k}|what's my favourite {k}]")), f"Your favourite {k} is **{w}**."))
        return turns
    if kind == 3:  # a list to keep
        pool = r.choice(list(CATEGORY.values()))
        items = r.sample(pool, 3)
        line = f"{items[0]}, {items[1]}, {items[2]}"
        turns = [(say(r, f"[Remember these words: {line}|Remember: {line}.|remember {line}|Keep these words in mind: {line}.|My list is {line}.|I need to buy: {line}|Remember this list: {line}]"), f"I will remember: {line}.")]
        if r.random() < 0.3:
            turns += r.choice([sums, small_fill])(r)
        if r.random() < 0.5:
            i = r.randrange(3)
            turns.append((rough(r, say(r, f"[what was the {ORDINAL[i]} word|what was the {ORDINAL[i]} one|which was the {ORDINAL[i]}|and the {ORDINAL[i]} one|the {ORDINAL[i]} word]")), f"The {ORDINAL[i]} one is **{items[i]}**."))
        else:
            turns.append((rough(r, say(r, "[which words were they|what was my list|what did i ask you to remember|tell me the list|what was on the list|repeat the list|what should you remember]")), f"Your list:\n- {items[0]}\n- {items[1]}\n- {items[2]}"))
        return turns
    n = r.choice(NAMES)  # a stranger's name is not known
    return [(rough(r, say(r, "[what is my name|what's my name|do you know my name|who am i|tell me my name]")), "You have not told me your name yet.")] if r.random() < 0.5 else \
        [(rough(r, say(r, "[what is my favourite colour|what is my favourite animal|where do i live|how old am i|what did i say|what do i like]")), "You have not told me that yet.")]


def small_fill(r):
    q, a = r.choice(SMALLTALK[5:20])
    return [(rough(r, say(r, q)), a[0])]


def echo(r):
    kind = r.randrange(4)
    if kind == 0:
        words = [r.choice(SPELL) for _ in range(r.randint(1, 4))]
        if r.random() < 0.4:
            words = [r.choice(NAMES), r.choice(["likes", "sees", "has", "wants", "finds"]), "the", r.choice(ANIMAL)]
        line = " ".join(words)
        return [(say(r, f"[Say: {line}|say {line}|Repeat after me: {line}|repeat: {line}|Repeat this: {line}|Please say {line}.|Write: {line}|write {line}]"), line)]
    if kind == 1:
        items = r.sample(r.choice([FRUIT, ANIMAL, TOOL, DRINK, SHAPE, VEHICLE, NAMES]), r.randint(2, 4))
        line = ", ".join(items)
        return [(say(r, f"[Make a list of {line}.|make a list: {line}|Write as a list: {line}|Put these in a list: {line}|bullet list: {line}|List these: {line}|Make bullets: {line}|turn this into a list: {line}]"), "\n".join(f"- {x}" for x in items))]
    if kind == 2:
        n, age = r.choice(NAMES), r.randint(2, 20)
        line = r.choice([f"{n} is {age} years old.", f"{n} is {age}.", f"name {n}, age {age}", f"{n}, {age} years"])
        return [(say(r, f"[Write as JSON: {line}|as json: {line}|JSON: {line}|Make JSON of this: {line}|turn this into JSON: {line}|Give me JSON: {line}]"), f'{{"name": "{n}", "age": {age}}}')]
    w = r.choice(SPELL)
    return [(say(r, f"[Make {w} bold.|write {w} in bold|bold: {w}|put {w} in bold|{w} in bold please]"), f"**{w}**")]


# --- stories ----------------------------------------------------------------------------------------------

KINDS = ["cat", "dog", "fox", "mouse", "rabbit", "bear", "owl", "duck", "frog", "robot", "girl", "boy", "hen", "goat", "lion", "bee", "pig", "horse"]
TRAIT = ["small", "brave", "shy", "curious", "kind", "quiet", "clever", "young"]
GOALS = {  # thing wanted -> (where it was, what stood in the way, how it was reached)
    "kite": ("in a tall tree", "The tree was too high", "climbed on a box and pulled the string"),
    "red ball": ("at the bottom of a well", "The well was too deep", "let down a rope with a hook"),
    "boat": ("on the other side of the river", "The river was too wide", "crossed on the old bridge"),
    "book": ("on the highest shelf", "The shelf was too high", "stood on a chair"),
    "key": ("under a big stone", "The stone was too heavy", "pushed it away together"),
    "lamp": ("in a dark cave", "The cave was too dark", "walked in hand in hand"),
    "apple": ("at the top of the hill", "The hill was too steep", "went up slowly, step by step"),
    "drum": ("behind a locked door", "The door was locked", "found the key under the mat"),
    "star": ("in the pond, as it seemed", "The water only showed a picture", "looked up and saw the real one"),
    "cake": ("in the house of a neighbour", "The neighbour looked cross", "asked politely"),
    "bell": ("in the old tower", "The stairs were too long", "rested on each floor"),
    "shell": ("deep in the sand", "The sand was too hot", "waited until the evening"),
    "hat": ("far out in the field", "The wind was too strong", "waited until the wind slept"),
    "honey": ("in a hollow tree", "The bees were awake", "came back at night, when the bees slept"),
}
ENDING = ["Then they shared it and laughed.", "That night {n} slept well.", "{n} was happy all day.", "From that day on the two were friends."]
ASK_STORY = "[tell me a story|tell me a tiny story|a story please|can you tell me a story|tell a story|write a story|write a short story|i want a story|story|make up a story|tell me a short story|story time|please tell me a story|give me a story]"


def story(r):
    kind, n, helper_kind, helper = r.choice(KINDS), *r.sample(NAMES, 2)[:1], r.choice(KINDS), None
    helper = r.choice([x for x in NAMES if x != n])
    while helper_kind == kind:
        helper_kind = r.choice(KINDS)
    goal = r.choice(list(GOALS))
    trait = r.choice(TRAIT)
    where, trouble, way = GOALS[goal]
    pron = {"girl": "she", "boy": "he"}.get(kind, r.choice(["she", "he"]))
    q = say(r, ASK_STORY)
    x = r.random()
    if x < 0.30:
        q += " about " + an(kind)
    elif x < 0.45:
        q += f" about {an(kind)} [named|called] {n}"
    elif x < 0.58:
        q += f" about {an(kind)} [named|called|with the name] {n} who [wants|looks for|needs] {an(goal)}"
    elif x < 0.66:
        q += f" about {an(kind)} and {an(goal)}"
    elif x < 0.74:
        q += f" about {an(goal)}"
    elif x < 0.80:
        q += f" about {n}"
    q = rough(r, say(r, q), exact=r.random() < 0.5)
    end = r.choice(ENDING).format(n=n)
    text = (f"Once there was a {trait} {kind} named {n}. {n} wanted {an(goal)}. It was {where}. {trouble}, and {n} was sad. "
            f"Then {an(helper_kind)} named {helper} came by. The two {way}. Now {pron} had the {goal}. {end}")
    if goal == "star":
        text = (f"Once there was a {trait} {kind} named {n}. {n} wanted a star. It was {where}. {trouble}, and {n} was sad. "
                f"Then {an(helper_kind)} named {helper} came by. The two {way}. It was far away, but it shone for both of them. {end}")
    turns = [(q, text)]
    for _ in range(r.choice([0, 0, 0, 1, 1, 2])):
        k = r.randrange(6)
        if k == 0:
            turns.append((rough(r, say(r, f"[what was the name of the {kind}|what was the {kind} called|who was the story about|what was the {kind}'s name|who is the {kind}]")), f"The {kind} was called **{n}**."))
        elif k == 1:
            turns.append((rough(r, say(r, f"[what did {n} want|what was {n} looking for|what did the {kind} want|what did {pron} want]")), f"{n} wanted **{an(goal)}**."))
        elif k == 2:
            turns.append((rough(r, say(r, f"[who helped {n}|who helped|who came by|who helped the {kind}|who was the friend]")), f"The {helper_kind} named **{helper}** helped."))
        elif k == 3:
            turns.append((rough(r, say(r, f"[where was the {goal}|where was it|where did they find it]")), f"It was **{where}**."))
        elif k == 4:
            turns.append((rough(r, say(r, "[make it shorter|shorter please|tell it in one sentence|in one sentence|sum it up|what was it about|summarise it|the short version]")), f"{n} the {kind} wanted {an(goal)}, and {helper} the {helper_kind} helped."))
        else:
            turns.append((rough(r, say(r, "[that is a nice story|nice story|i like that story|thank you for the story|that was nice|good story|lovely]")), "Thank you! I have more small ones."))
    if r.random() < 0.12:
        q2, t2 = story(r)[0]
        turns.append((rough(r, say(r, "[another one|another story|one more|one more story please|tell me another one|and another story|a different one]")), t2))
    return turns


# --- outside ----------------------------------------------------------------------------------------------

WHO = """the king of Spain|Napoleon|Einstein|Mozart|Shakespeare|Cleopatra|the prime minister|Newton|Darwin|Beethoven|Picasso|Gandhi|Caesar|Plato|Marie Curie|the mayor of Boston|
Alexander the Great|the first man on the moon|the pope|the queen of Denmark|Columbus|Galileo|Tolstoy|Kafka|Freud|Buddha|Aristotle|Homer|Leonardo|Michelangelo|Bach|Lincoln|Churchill|Kepler|Tesla|
the boss of that company|the best football player|the world champion in chess|the author of that book|a famous singer|my neighbour|the actor in that film|Ada Lovelace|Alan Turing|the inventor of the radio""".replace("\n", "").split("|")
THEME = """quantum physics|photosynthesis|the French Revolution|black holes|inflation|the stock market|democracy|philosophy|gravity|evolution|DNA|vitamins|climate change|nuclear power|chemistry|algebra|geometry|calculus|
the Roman Empire|the Middle Ages|the Second World War|volcanoes|earthquakes|dinosaurs|the pyramids|opera|jazz|cinema|baseball|golf|the Olympic games|taxes|insurance|mortgages|the constitution|law|medicine|diabetes|a headache|
cancer|vaccines|psychology|love letters|marketing|accounting|bitcoin|real estate|cooking pasta|sushi|wine|gardening|yoga|meditation|engines|rockets|satellites|bridges|architecture|Buddhism|mythology|the bible|poetry of Goethe|
the human brain|the liver|bacteria|viruses|atoms|electrons|magnetism|electricity|lasers|radio waves|relativity|the big bang|Pluto|Saturn|comets|Kubernetes|Python|databases|operating systems|Linux|compilers|sorting algorithms|
blockchain|robotics|printers|passwords|airports|hotels in Rome|visas|train times|recipes|carpets|tattoos|fashion|perfume|horse racing|poker|backgammon|the violin concerto|sculpture|the moon landing|pirates|vikings|samurai|
the industrial revolution|slavery|trade unions|the gold standard|supply and demand|probability theory|prime numbers|fractals|topology|Latin grammar|Chinese characters|Esperanto|hieroglyphs|the Silk Road|coral reefs|glaciers|deserts|
hurricanes|the ozone layer|recycling|solar cells|batteries|electric cars|oil|coal mining|steel|plastics|cement|paint|textiles|leather|diamonds|pearls|mushrooms|orchids|penguins|sharks|crocodiles|jellyfish|beetles|parrots|camels|
dolphins|bats|kangaroos|the immune system|blood pressure|sleep disorders|allergies|surgery|anatomy|nutrition|protein|the thyroid|anxiety|therapy|contracts|copyright|patents|elections|the senate|the European Union|NATO|
the United Nations|human rights|the plague|the Aztecs|the Ottoman Empire|Sparta|Byzantium|the Ming dynasty|feudalism|existentialism|stoicism|logic|ethics|aesthetics|semiotics|thermodynamics|entropy|fluid dynamics|superconductors""".replace("\n", "").split("|")
PLACE = """Chicago|Boston|Berlin|Sydney|Lagos|Mumbai|Toronto|Naples|Hamburg|Lyon|Texas|California|Siberia|the Amazon|the Sahara|the Nile|Lake Geneva|the Alps|Hawaii|Bali|Zurich|Prague|Istanbul|Seoul|Manila|Lima|Bogota|Havana|
Dubai|Nairobi|Cape Town|Vancouver|Florida|Scotland|Tibet|Sicily|Greenland|Tasmania|Brazil|Mexico|Argentina|Turkey|Iran|Iraq|Korea|Belgium|Holland|Hungary|Switzerland|Israel|Australia|New Zealand|South Africa""".replace("\n", "").split("|")
WORK = """Hamlet|Faust|the Odyssey|the Mona Lisa|the Magic Flute|War and Peace|Don Quixote|Moby Dick|that famous film|the national anthem|the Ninth Symphony|Ulysses|Macbeth|the telephone|the steam engine|the light bulb|the theory of relativity|penicillin|the airplane""".replace("\n", "").split("|")
LANG = "French|German|Spanish|Italian|Chinese|Japanese|Russian|Latin|Greek|Arabic|Polish|Dutch|Turkish|Swedish|Hindi|Korean".split("|")

OUTSIDE = [
    ("[who is W|who was W|when was W born|when did W die|what did W do|tell me about W|where was W born|how old is W|what is W famous for|why is W famous|who was the wife of W|what did W say|do you know W|what happened to W|how rich is W|how tall is W]", "W", WHO),
    ("[what is X|explain X|tell me about X|how does X work|what do you know about X|write an essay about X|give me an introduction to X|what is the history of X|why is X important|what causes X|who invented X|what are the main ideas of X|summarise X|"
     "give me facts about X|teach me X|help me with X|what is the newest research on X|can you explain X|how do i learn X|what are good books about X|compare X and Y|what is the difference between X and Y|what are the problems of X|give me an example of X|"
     "write a report about X|how did X begin|what does X cost|is X dangerous|what is the opposite view on X|why do people like X|i have a question about X|i need advice on X|what is new in X|define X|a poem about X|ten facts about X]", "X", THEME),
    ("[how many people live in P|where is P|what is the population of P|how far is it to P|what can i visit in P|what is the history of P|how high is P|how long is P|which river flows through P|what is P known for|how do i get to P|what do people eat in P|"
     "who governs P|is P beautiful|what is the area of P|what is a good hotel in P|what currency is used in P|what language do they speak in P|how big is P|tell me about P|plan a trip to P|what is the best restaurant in P]", "P", PLACE),
    ("[who wrote M|who made M|who invented M|when was M written|what is M about|summarise M|who painted M|who composed M|what is the plot of M|quote M|when was M made|tell me about M|who discovered M]", "M", WORK),
    ("[translate this into L|how do you say good morning in L|what is dog in L|translate hello to L|say thank you in L|what is the L word for house|teach me L|write a letter in L|how do i say i love you in L|can you translate a text into L|conjugate a verb in L]", "L", LANG),
]
OUTSIDE_PLAIN = """how do i cook rice|how do i bake a cake|how do i fix my car|how do i lose weight|how do i get rich|how do i find a job|write my application|write an email to my boss|write a letter to my landlord|what is the speed of light|
how far away is the moon|how far is the sun|how old is the universe|how old is the earth|what is the mass of an electron|what is the melting point of iron|how many bones are in the body|how many teeth do sharks have|how many stars are there|
what is the longest river in the world|what is the deepest lake|who won the world cup|who won the election|who won the match|who is the richest person|which car should i buy|which phone is best|what should i buy|should i invest in gold|
what is the price of gold|how do i file my taxes|what is my legal right|should i see a doctor|what medicine should i take|why does my head hurt|why is the sky blue|why is the sea salty|why do cats purr|why do leaves change their colour|why do we dream|
why do we yawn|how do planes fly|how do magnets work|how do batteries work|how does a fridge work|how does a microwave work|how does the internet work|how do computers work|how do phones work|how do i install linux|
how do i write a loop in python|what is a pointer in c|fix this bug|what does this error mean|sort this array|write sql for me|what is a regular expression|explain recursion|how do i center a div|what is the big o of quicksort|what is docker|
solve this equation|what is the integral of x squared|what is pi|what is the value of pi|what is a logarithm|prove the theorem of pythagoras|what is the next prime|factor this number|how do i compute compound interest|
write a novel|write a screenplay|write a song|write a speech|write lyrics|write a business plan|plan my week|plan a holiday|make a budget|make a workout plan|make a diet plan|give me a recipe|a recipe for soup|how do i make pizza|what wine goes with fish|
what should i cook tonight|what movie should i watch|recommend a book|recommend a film|what music is good|who sang that song|who is the best singer|what is the plot of that film|who was the first emperor of rome|when did the war end|
what happened in 1789|what happened in 1066|when was the wall built|who discovered america|who built the pyramids|what is the tallest building|how tall is the eiffel tower|when was rome founded|what is the oldest city|how many countries are there|
what is the largest country|what is the smallest country|what is the currency of japan|what is the flag of brazil|which countries border germany|what is the longest word|what does this latin phrase mean|how do i pronounce that|
what is a metaphor|what is a sonnet|what is irony|how do i play chess well|how do i play the guitar|how do i draw a face|how do i knit|how do i grow tomatoes|how do i train my dog|how do i clean a carpet|how do i remove a stain|how do i tie a tie|
what is cholesterol|what is insulin|what is a virus|what is a neuron|what is an enzyme|what is the periodic table|what is the symbol of iron|what is the atomic number of gold|how does a vaccine work|what is a black hole|what is dark matter|
is there life on mars|are there aliens|does god exist|what is truth|what is beauty|what is justice|who is right|is it good to lie|what happens after death|what is consciousness|what is time|what is money|what is art|what is happiness|
what will happen tomorrow|will it rain tomorrow|who will win|what are the lottery numbers|predict the future|what is my horoscope|am i going to be rich|is she in love with me|what is my neighbour called|where are my keys|where is my phone|
what did i eat yesterday|how old is my brother|what is the name of my cat|what is my phone number|what is my password|where do you think i live|what colour are my eyes|what am i wearing|what is in my pocket|how do i become famous|
how do i speak in public|how do i sleep better|how do i stop smoking|how do i learn faster|how do i raise a child|how do i write a cv|what is a good name for a baby|what is a good name for a company|what present should i buy|what is the best city to live in""".replace("\n", "").split("|")
SENSES = """what time is it|what is the time|what day is it|what day is it today|what is the date|what is today's date|what year is it|which month is it now|what is the weather|how is the weather|is it raining|will it rain today|what is the weather like today|
what is in the news|any news today|what is the latest news|what happened today|what happened yesterday in the world|how cold is it|how warm is it outside|where am i|where am i now|what is my location|is it day or night|is it late|
what is the temperature outside|how late is it|what is today|who is the president now|what is the score|what is the stock price today|is it sunny|do you know the time|can you tell me the time|tell me the date|what is the current time""".replace("\n", "").split("|")
SYLL = "ba ko ri mu te la zo ni fe du sha pli gro ven tar lox wim quo jen dra".split()


def outside(r):
    x = r.random()
    if x < 0.35:
        q = r.choice(OUTSIDE_PLAIN)
    elif x < 0.42:  # a made-up name: whatever it is, it is not known
        w = "".join(r.choice(SYLL) for _ in range(r.randint(2, 3)))
        q = say(r, "[who is W|what is W|tell me about W|what is the capital of W|where is W|explain W|what does W mean|what is the colour of W|do you know W|what is the history of W|who invented W|how does W work|what is the opposite of W]").replace("W", r.choice([w, cap(w), cap(w)]))
    else:
        pattern, slot, table = r.choice([OUTSIDE[0], OUTSIDE[1], OUTSIDE[1], OUTSIDE[1], OUTSIDE[2], OUTSIDE[2], OUTSIDE[3], OUTSIDE[4]])
        q = re.sub(r"\bY\b", r.choice(THEME), re.sub(r"\b%s\b" % slot, r.choice(table), say(r, pattern)))
    turns = [(rough(r, q), DONT_KNOW)]
    if r.random() < 0.15:
        turns.append((rough(r, say(r, "[why not|why|why don't you know|why do you not know that|really|are you sure|how come|that is a pity|too bad|but why]")),
                      "I am too small to hold many facts. I know this page, tiny stories and small sums."))
    elif r.random() < 0.12:
        turns.append((rough(r, say(r, "[how|how do i do that|how do i open one|where|where do i find one|what larger student|which one|how do i open a larger student]")),
                      "Drop a GGUF file onto this page or pick it with the file button. It stays on this machine."))
    return turns


def senses(r):
    return [(rough(r, r.choice(SENSES)), NO_SENSES)]


def unclear(r):
    kind = r.randrange(4)
    if kind == 0:
        q = "".join(r.choice("asdfghjklqwertzuiopyxcvbnm") for _ in range(r.randint(3, 10)))
    elif kind == 1:
        q = r.choice(["?", "...", "!!!", "??", ".", "-", "#", "***", "\U0001f642", "\U0001f600", ";;", "/", "1234567", "0000", "99", "%&$"])
    elif kind == 2:
        q = " ".join("".join(r.choice("asdfghjklqwertuiopxcvbnm") for _ in range(r.randint(3, 6))) for _ in range(r.randint(2, 3)))
    else:
        q = r.choice(SYLL) * r.randint(2, 3)
    return [(q, UNCLEAR)]


# --- system prompts ---------------------------------------------------------------------------------------

PLAIN_SYSTEM = ["You are a helpful assistant.", "You are First, a very small student that lives in this page.", "You are a small and friendly student.", "Answer briefly.",
                "Answer in plain English.", "You are a helpful assistant. Answer briefly.", "Be kind and honest.", "You are a helpful, honest assistant.", "Say so when you do not know.",
                "You are an assistant in a web page."]


def named_system(r):
    n = r.choice(NAMES)
    s = say(r, f"[Your name is {n}.|You are {n}.|You are called {n}.|You are {n}, a helpful assistant.|Call yourself {n}.]")
    q = say(r, "[who are you|what is your name|what's your name|your name|tell me your name|what are you called|introduce yourself]")
    turns = [(rough(r, q), f"I am {n}, a very small student that lives in this page.")]
    if r.random() < 0.5:
        turns = r.choice([hello, small_fill, sums, topic])(r) + turns
    return s, turns


def one_word_system(r):
    s = say(r, "[Answer in one word.|Answer with one word only.|Use one word.|Answer with a single word.]")
    turns = []
    for _ in range(r.choice([1, 1, 2])):
        k = r.randrange(4)
        if k == 0:
            c = r.choice(list(CAPITALS))
            turns.append((rough(r, say(r, CAPITAL).replace("X", c)), CAPITALS[c]))
        elif k == 1:
            t = r.choice(list(COLOUR_OF))
            turns.append((rough(r, f"what colour is {t}"), cap(COLOUR_OF[t])))
        elif k == 2:
            a, b = r.choice(OPPOSITES)
            if "light" in (a, b):
                a, b = "dark", "light"
            turns.append((rough(r, f"what is the opposite of {a}"), cap(b)))
        else:
            q, short, _ = r.choice(FACTS)
            turns.append((rough(r, say(r, q)), short))
    return s, turns


# Shares of the exchanges. The page and its ideas weigh most: that is what a visitor asks first.
MIXTURE = [(topic, 20), (asked, 15), (identity, 6), (small_talk, 7), (hello, 2), (story, 10), (sums, 9), (word_sum, 2), (too_big, 2), (counting, 4), (opposites, 3), (colours, 2.5),
           (calendar, 4), (spelling, 7), (lower, 1), (fact, 9), (misc_fact, 3), (naming, 3), (remember, 4.5), (echo, 3.5), (outside, 11), (senses, 1.5), (unclear, 1)]
MAKERS = [m for m, _ in MIXTURE]
SHARES = [s for _, s in MIXTURE]


def chat(r, long=False):
    """One chat: a few exchanges of different kinds, so that a change of subject is nothing new."""
    messages = []
    x = r.random()
    if x < 0.02:
        s, turns = named_system(r)
    elif x < 0.04:
        s, turns = one_word_system(r)
    else:
        s = r.choice(PLAIN_SYSTEM) if x < 0.12 else None
        turns = hello(r) if r.random() < 0.08 else []
        for _ in range(r.randint(8, 16) if long else r.choice([1, 1, 1, 2, 2, 3, 4])):
            turns += r.choices(MAKERS, SHARES)[0](r)
    if s:
        messages.append(("system", s))
    for u, a in turns:
        messages += [("user", u), ("assistant", a)]
    return messages


def chats(seed, count, long=False):
    r = random.Random(seed)
    for _ in range(count):
        yield chat(r, long)


def as_text(messages):
    return "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in messages)


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--chats", type=int, default=12)
    args = p.parse_args()
    if args.chats < 1:
        raise SystemExit("--chats must be at least 1")
    for c in chats(args.seed, args.chats):
        print(as_text(c))
