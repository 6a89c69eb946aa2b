"""The vocabulary of the generated corpus: our own lists, exactly 256 words each, so that eight bits choose one word.

Verbs, nouns and adjectives are regular, so that `plural`, `past` and `gerund` are rules without exceptions.
"""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


VERBS = _words("""
    accept adapt add adjust admire adopt advance advise agree allow announce answer appear apply approach arrange arrive ask assemble
    assess assist attach attend avoid award bake balance borrow brush calculate call cancel capture carry change charge chase check
    claim clean clear climb close collect combine compare complete compose confirm connect consider consult contain copy correct count
    cover crack create cross damage dance debate decide declare decorate delay deliver demand describe deserve design destroy detect
    develop discover discuss display dissolve divide doubt dream earn edit educate embrace employ enable encourage enjoy ensure enter
    escape establish estimate evaluate examine exchange excuse exercise exhibit exist expand expect explain explore export express
    extend face fail fasten finish fix float follow force form frame furnish gather glance govern grade greet guarantee guard guess
    guide handle happen harvest hesitate hire hunt identify ignore illustrate imagine improve include increase inform inspect install
    introduce invent investigate invite join judge jump justify kick knock label land last launch learn lift limit link listen load
    locate lock look lower manage march mark match measure melt mend mention merge mix monitor mount move multiply name navigate need
    note notice number obey observe obtain offer open operate oppose order organise own pack paint park pass perform phone pick place
    plant play point polish pour practise praise prepare present preserve press prevent print produce promise protect prove publish pull
    push question reach receive recognise record recover reduce reflect refuse regret reject relax release remain remember remove repair
    repeat replace report request rescue respect return reveal review reward search select
""")

NOUNS = _words("""
    account actor address adult aeroplane agent airport album alley anchor animal answer apartment apple apron archive arm arrow article
    artist atlas attic author avenue axle bakery balcony ball bank barn barrel basin basket bay beach beam bear bedroom bell bench
    bicycle bird blanket block boat bone book border bottle bowl box branch brick bridge brother bucket builder building button cabin
    cable camera camp canal candle canyon captain car card carpet cart castle cat cave cellar chain chair chapel chart church cinema
    circle city clerk cliff clock cloud coach coast coat coin collar college colour column comet comma committee compass concert
    contract cook corner cottage counter country courtyard cousin crane crew cupboard curtain customer dancer daughter dealer desert
    desk diary dinner doctor document dog doll door drawer driver drum eagle editor egg elbow elephant elevator engine engineer envelope
    eye factory farm farmer father feather fence ferry field finger flag floor flower folder forest fork fountain friend frog furnace
    gallery garage garden gate girl glacier glove goat grandmother guest guide guitar hall hammer harbour hat hedge helmet hill holiday
    horse hospital hotel hour house insect island jacket jar journal judge kettle key kitchen kite ladder lake lamp lawyer leg lemon
    letter library lighthouse lion lock machine magazine manager map market mayor meadow merchant message microscope mill miller mirror
    monument moon motor mountain museum musician nail neighbour nephew notebook nurse ocean office officer orange orchard oven owl owner
    packet page painter palace panel parent park parrot passenger path pear pencil pianist pillow pilot pipe planet plate platform
    player pocket
""")

TOPICS = _words("""
    ability absence accident action activity advantage adventure advice afternoon age agreement aim alarm amount analysis anniversary
    application appointment approach argument arrangement aspect attempt attention attitude average background balance battle beginning
    behaviour belief benefit birthday budget business campaign career case category cause celebration century ceremony challenge chance
    change chapter charge choice claim climate comparison competition complaint concept conclusion condition conference conflict
    connection consequence context conversation cost course credit crisis criticism culture current custom cycle damage danger date
    debate debt decade decision decline defence definition degree delay delivery demand description design detail development difference
    difficulty dimension direction disaster discovery discussion disease distance district doubt dream duty economy edition effect
    effort election emergency emotion employment ending energy entry episode error evening event evidence example exception exchange
    exercise expansion expense experience experiment explanation expression failure fashion fault feature feeling figure finding formula
    foundation frequency function future generation goal government gradient growth guarantee habit height history hope idea illness
    image impact improvement income increase industry influence inquiry instance institution instruction insurance intention interest
    interval introduction invention investment invitation issue journey judgement language law layer lecture lesson level limit link
    list loan location loss majority manner margin matter maximum meaning measure measurement meeting memory method minimum minute
    mission mistake mixture moment month mood morning motion movement nation nature network notion novel objective obligation
    observation occasion offer opinion opportunity option order organisation origin outcome parade part pattern pause payment penalty
    percentage performance period permission phase phrase plan pleasure policy position possibility practice preference preparation
    presence pressure principle priority problem procedure process profit programme
""")

ADJECTIVES = _words("""
    able absent abstract accurate active actual ancient angry annual anxious apparent average aware basic beautiful blind blue bold
    brave brief bright broad broken brown busy calm careful careless central certain cheap chemical classic clean clear clever cold
    colourful comfortable common compact complete complex confident constant convenient cool correct crowded curious daily damp
    dangerous dark deep delicate dense different difficult digital direct distant domestic double dry dull eager early eastern easy
    economic elegant empty endless enormous equal essential even everyday exact excellent exotic expensive extra faint fair faithful
    familiar famous fancy fast final fine firm flat flexible foreign formal fragile free frequent fresh friendly frozen full funny
    general generous gentle genuine giant global golden gradual grand grateful great green grey guilty handsome happy harsh healthy
    heavy helpful hidden high historic hollow honest huge humble ideal idle immediate important impossible independent indoor industrial
    inner innocent instant intense internal invisible joint large late lazy leading legal light likely linear little lively local lonely
    long loose loud lovely low loyal lucky magnetic main major marine massive mature mechanical medical medieval mental mild military
    minor mobile moderate modern modest moral musical mutual mysterious narrow national natural neat nervous neutral new noisy normal
    northern novel obvious odd official old open optional orange ordinary original outdoor outer patient perfect permanent plain
    pleasant polite poor popular portable positive possible practical precious precise present previous private probable productive
    proper proud public pure quick quiet random rapid rare ready real reasonable recent regular relevant reliable remote rich rigid
    robust romantic rough round royal rural sacred safe
""")


def plural(noun: str) -> str:
    """`"box"` → `"boxes"`, `"city"` → `"cities"`, `"boat"` → `"boats"`."""
    if noun.endswith("y") and noun[-2] not in "aeou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def past(verb: str) -> str:
    """`"bake"` → `"baked"`, `"carry"` → `"carried"`, `"add"` → `"added"`."""
    if verb.endswith("y") and verb[-2] not in "aeou":
        return verb[:-1] + "ied"
    return verb + ("d" if verb.endswith("e") else "ed")


def gerund(verb: str) -> str:
    """`"bake"` → `"baking"`, `"agree"` → `"agreeing"`, `"add"` → `"adding"`."""
    return (verb[:-1] if verb.endswith("e") and not verb.endswith("ee") else verb) + "ing"


def article(word: str) -> str:
    """The indefinite article that goes before a word of these lists."""
    silent_h = word.startswith(("hour", "honest"))
    return "an" if (word[0] in "aeiou" and not word.startswith("eu")) or silent_h else "a"
