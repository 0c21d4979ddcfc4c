"""Tables the corpus draws on: words, names and small facts, written for this project.

Kept apart from the grammar so that a reader can check every fact in one sitting.
"""

NAMES = """Ana Ben Cara Dan Ella Finn Gina Hugo Iris Jack Kim Leo Mia Nora Otto Paul Rosa Sam Tom Una
Vera Will Zoe Amir Bea Carl Dora Emil Fay Greta Hana Ivan June Lena Max Nina Omar Pia Ruth Theo
Yara Milo Tara Lucy Adam Eva Noah""".split()

# word -> opposite; both directions are asked.
OPPOSITES = """hot cold|big small|up down|left right|day night|happy sad|fast slow|open closed|old young|high low
light dark|wet dry|hard soft|full empty|good bad|early late|long short|rich poor|loud quiet|clean dirty
strong weak|near far|first last|true false|black white|in out|yes no|begin end|love hate|buy sell
give take|push pull|win lose|always never|above below|inside outside|awake asleep|thick thin|wide narrow|deep shallow
heavy light|brave afraid|sweet bitter|smooth rough|sharp blunt|front back|top bottom|start stop|friend enemy|question answer
remember forget|laugh cry|come go|many few|more less|same different|easy difficult|summer winter|north south|east west"""
OPPOSITES = [tuple(p.split()) for line in OPPOSITES.split("\n") for p in line.split("|")]

COLOUR_OF = {
    "the sky": "blue", "grass": "green", "snow": "white", "a lemon": "yellow", "a banana": "yellow", "blood": "red",
    "a strawberry": "red", "a tomato": "red", "coal": "black", "a carrot": "orange", "an orange": "orange", "milk": "white",
    "the sun": "yellow", "a leaf": "green", "chocolate": "brown", "a cucumber": "green", "the night sky": "black",
    "a crow": "black", "a swan": "white", "an elephant": "grey", "a flamingo": "pink", "a plum": "purple", "the sea": "blue",
    "salt": "white", "a fire engine": "red", "a polar bear": "white", "a frog": "green", "a pumpkin": "orange",
    "a cherry": "red", "sand": "yellow", "wood": "brown", "a pea": "green", "cheese": "yellow", "ice": "white",
}
MIX = [("red", "yellow", "orange"), ("blue", "yellow", "green"), ("red", "blue", "purple"), ("red", "white", "pink"),
       ("black", "white", "grey")]
COLOURS = "red blue green yellow orange purple pink brown black white grey".split()

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
ORDINAL = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh", "twelfth"]
NUMBER = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
          "seventeen eighteen nineteen twenty").split()

CAPITALS = {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid", "England": "London", "Japan": "Tokyo",
    "China": "Beijing", "Russia": "Moscow", "Egypt": "Cairo", "Greece": "Athens", "Portugal": "Lisbon", "Austria": "Vienna",
    "Poland": "Warsaw", "Ireland": "Dublin", "Norway": "Oslo", "Sweden": "Stockholm", "India": "New Delhi",
    "the United States": "Washington", "Canada": "Ottawa", "Denmark": "Copenhagen", "Finland": "Helsinki",
}
# Asked as well, so that the student learns where its table ends instead of inventing a city.
CAPITALS_UNKNOWN = """Mongolia Peru Chile Kenya Ghana Nepal Laos Cuba Fiji Malta Iceland Albania Bolivia Ecuador Angola Zambia Qatar
Oman Jordan Vietnam Thailand Indonesia Malaysia Morocco Algeria Tunisia Libya Sudan Nigeria Uganda Latvia Estonia Lithuania
Croatia Serbia Bulgaria Romania Ukraine Armenia Georgia Pakistan Bangladesh Cambodia Uruguay Paraguay Panama Honduras""".split()

SOUNDS = {"dog": "woof", "cat": "meow", "cow": "moo", "duck": "quack", "sheep": "baa", "pig": "oink", "lion": "roar",
          "bee": "buzz", "snake": "hiss", "owl": "hoot", "mouse": "squeak", "horse": "neigh", "frog": "ribbit", "rooster": "cock-a-doodle-doo"}
LEGS = {"dog": 4, "cat": 4, "cow": 4, "horse": 4, "spider": 8, "ant": 6, "bee": 6, "bird": 2, "duck": 2, "snake": 0, "fish": 0,
        "person": 2, "chicken": 2, "octopus": 0, "elephant": 4, "frog": 4, "butterfly": 6, "pig": 4, "sheep": 4, "mouse": 4}
BABY = {"dog": "puppy", "cat": "kitten", "cow": "calf", "sheep": "lamb", "horse": "foal", "duck": "duckling", "pig": "piglet",
        "goat": "kid", "bear": "cub", "frog": "tadpole", "hen": "chick", "lion": "cub", "goose": "gosling", "kangaroo": "joey"}
SIDES = {"triangle": 3, "square": 4, "rectangle": 4, "pentagon": 5, "hexagon": 6, "octagon": 8, "circle": 0, "cube": 6}
HOW_MANY = {
    ("minutes", "an hour"): "60", ("seconds", "a minute"): "60", ("hours", "a day"): "24", ("days", "a week"): "7",
    ("months", "a year"): "12", ("days", "a year"): "365", ("weeks", "a year"): "52", ("seasons", "a year"): "4",
    ("letters", "the alphabet"): "26", ("fingers", "a hand"): "5", ("eggs", "a dozen"): "12", ("centimetres", "a metre"): "100",
    ("metres", "a kilometre"): "1000", ("grams", "a kilogram"): "1000", ("years", "a century"): "100", ("years", "a decade"): "10",
    ("cents", "a dollar"): "100", ("bits", "a byte"): "8", ("colours", "a rainbow"): "7", ("days", "February"): "28, or 29 in a leap year",
    ("wheels", "a car"): "4", ("wheels", "a bicycle"): "2", ("planets", "the solar system"): "8", ("strings", "a violin"): "4",
    ("days", "a leap year"): "366", ("toes", "a foot"): "5",
}
PLURALS = {"mouse": "mice", "child": "children", "foot": "feet", "tooth": "teeth", "man": "men", "woman": "women", "goose": "geese",
           "person": "people", "sheep": "sheep", "leaf": "leaves", "knife": "knives", "wolf": "wolves", "cat": "cats", "dog": "dogs",
           "box": "boxes", "baby": "babies", "city": "cities", "bus": "buses", "fish": "fish", "book": "books", "tree": "trees", "house": "houses"}
FRUIT = "apple banana pear cherry plum orange lemon grape strawberry peach mango melon".split()
VEGETABLE = "carrot potato onion cabbage spinach cucumber broccoli pea leek radish".split()
ANIMAL = "dog cat horse cow sheep lion tiger bear rabbit fox owl duck frog mouse elephant wolf".split()
DRINK = "water milk tea coffee juice cocoa lemonade".split()
TOOL = "hammer saw spoon knife rake needle broom shovel".split()
VEHICLE = "car bus train bicycle boat truck plane tram".split()
INSTRUMENT = "piano violin drum flute guitar trumpet harp".split()
SHAPE = "circle square triangle star cube heart".split()
SPORT = "football tennis swimming running chess rowing".split()
CATEGORY = {"fruit": FRUIT, "vegetable": VEGETABLE, "animal": ANIMAL, "drink": DRINK, "tool": TOOL, "vehicle": VEHICLE,
            "instrument": INSTRUMENT, "colour": COLOURS, "shape": SHAPE, "sport": SPORT}
# smallest to biggest
BY_SIZE = "ant bee mouse frog cat dog sheep horse elephant whale".split()

RHYMES = """cat hat|dog fog|sun fun|moon spoon|tree bee|house mouse|star car|light night|rain train|king ring|bed red|fish dish
book cook|ball wall|cake lake|boat goat|bear chair|day play|snow blow|hand sand|nose rose|shell bell|clock sock|gold cold
blue shoe|green queen|door floor|pen hen|fox box|frog log|bug rug|ship trip|sea key|sky fly"""
RHYMES = [tuple(p.split()) for line in RHYMES.split("\n") for p in line.split("|")]

# The words of the spelling skills. Reversing is learnt word by word: the student sees tokens, not letters.
SPELL = """cat dog sun map red cup pen box hat bed fox owl bee ant cow pig hen egg ice sea sky car bus key jam tea pie leg arm eye ear
toe top pot net ten two one six man boy day fog log run fun win big hot wet old new book tree moon star fish bird duck frog
lion bear wolf door wall milk cake boat ship king ring rain snow wind fire gold blue pink hand foot nose word page leaf
rose lamp desk song game ball kite time life love hope good home road farm lake hill rock sand salt rice soup apple bread
water house mouse horse green black white table chair train plant river light night happy hello world paper music""".split()

FACTS = [
    # (question alternatives, short, sentence)
    ("[what do bees make|what do we get from bees|what is made by bees]", "Honey", "Bees make **honey**."),
    ("[what do cows give us|what do we get from cows|what drink comes from a cow]", "Milk", "Cows give us **milk**."),
    ("[what do hens lay|what comes out of a hen|what do chickens lay]", "Eggs", "Hens lay **eggs**."),
    ("[what do sheep give us|what is wool made from|where does wool come from]", "Wool", "Sheep give us **wool**."),
    ("[what is ice made of|what is ice]", "Water", "Ice is frozen **water**."),
    ("[when does water freeze|at what temperature does water freeze|what is the freezing point of water]", "0 degrees", "Water freezes at **0 degrees Celsius**."),
    ("[when does water boil|at what temperature does water boil|what is the boiling point of water]", "100 degrees", "Water boils at **100 degrees Celsius**."),
    ("[what planet do we live on|which planet do we live on|what is our planet called|which planet is our home]", "Earth", "We live on **Earth**."),
    ("[what is the closest star|which star is closest to us|what star is nearest to the earth]", "The sun", "The closest star is **the sun**."),
    ("[what is the biggest planet|which planet is the largest|what is the largest planet in the solar system]", "Jupiter", "The biggest planet is **Jupiter**."),
    ("[which planet is red|what is the red planet|which planet is called the red planet]", "Mars", "**Mars** is called the red planet."),
    ("[what goes around the earth|what moves around the earth|what shines in the sky at night]", "The moon", "**The moon** goes around the Earth."),
    ("[does the earth go around the sun|does the sun go around the earth|what does the earth go around]", "The sun", "The Earth goes around **the sun**."),
    ("[where does the sun rise|in which direction does the sun rise|where does the sun come up]", "East", "The sun rises in the **east**."),
    ("[where does the sun set|in which direction does the sun set|where does the sun go down]", "West", "The sun sets in the **west**."),
    ("[what is the biggest animal|what is the largest animal|which animal is the biggest]", "The blue whale", "The biggest animal is the **blue whale**."),
    ("[what is the fastest animal|which animal runs fastest|which land animal is the fastest]", "The cheetah", "The fastest land animal is the **cheetah**."),
    ("[what is the tallest animal|which animal is the tallest|which animal has the longest neck]", "The giraffe", "The tallest animal is the **giraffe**."),
    ("[what do rabbits eat|what does a rabbit eat|what do rabbits like to eat]", "Grass", "Rabbits eat **grass** and leaves."),
    ("[what do cats like to drink|what do cats hunt|what does a cat catch]", "Mice", "Cats hunt **mice**."),
    ("[what is bread made of|what is bread made from|what do you need for bread]", "Flour", "Bread is made of **flour**, water, yeast and salt."),
    ("[what is paper made of|what is paper made from|where does paper come from]", "Wood", "Paper is made from **wood**."),
    ("[what is glass made of|what is glass made from]", "Sand", "Glass is made from **sand**."),
    ("[what is cheese made of|what is cheese made from|what is butter made from]", "Milk", "It is made from **milk**."),
    ("[what do plants need|what does a plant need to grow|what do flowers need]", "Light and water", "Plants need **light, water and air**."),
    ("[which season is the coldest|what is the coldest season|when does it snow|when is it cold]", "Winter", "**Winter** is the coldest season."),
    ("[which season is the warmest|what is the hottest season|when is it warmest]", "Summer", "**Summer** is the warmest season."),
    ("[which season comes after winter|what comes after winter|when do flowers bloom]", "Spring", "After winter comes **spring**."),
    ("[which season comes after summer|what comes after summer|when do leaves fall]", "Autumn", "After summer comes **autumn**."),
    ("[what are the seasons|name the seasons|name the four seasons|list the seasons]", "Spring, summer, autumn, winter", "The four seasons are:\n- spring\n- summer\n- autumn\n- winter"),
    ("[what do you use to cut paper|what cuts paper|which tool cuts paper]", "Scissors", "**Scissors** cut paper."),
    ("[what do you use when it rains|what keeps you dry in the rain|what do you need in the rain]", "An umbrella", "An **umbrella** keeps you dry in the rain."),
    ("[what do you use to tell the time|what shows the time|which thing tells the time]", "A clock", "A **clock** shows the time."),
    ("[what do we breathe|what do people breathe]", "Air", "We breathe **air**."),
    ("[what pumps blood|what does the heart do|which part of the body pumps blood]", "The heart", "The **heart** pumps blood through the body."),
    ("[what do we see with|what are eyes for|which part of the body sees]", "Eyes", "We see with our **eyes**."),
    ("[what do we hear with|what are ears for|which part of the body hears]", "Ears", "We hear with our **ears**."),
    ("[where do fish live|where does a fish live]", "Water", "Fish live in **water**."),
    ("[where do birds live|where does a bird live|what do birds build]", "A nest", "Birds build a **nest** and live in it."),
    ("[can birds fly|do birds fly]", "Yes", "Yes, most birds can **fly**."),
    ("[can fish swim|do fish swim]", "Yes", "Yes, fish **swim** with their fins."),
    ("[can pigs fly|do pigs fly|can a dog fly|do cows fly]", "No", "No, it cannot **fly**."),
    ("[is the sun hot|is fire hot|is the sun warm]", "Yes", "Yes, it is very **hot**."),
    ("[is ice cold|is snow cold]", "Yes", "Yes, it is very **cold**."),
    ("[is the earth flat|is the earth round|what shape is the earth|what is the shape of the earth]", "Round", "The Earth is **round**, like a ball."),
    ("[what shape is a ball|what shape is a wheel|what shape is the sun]", "Round", "It is **round**."),
    ("[what is the first letter of the alphabet|which letter comes first]", "A", "The first letter is **A**."),
    ("[what is the last letter of the alphabet|which letter comes last]", "Z", "The last letter is **Z**."),
    ("[what are the vowels|which letters are vowels|name the vowels|list the vowels]", "A, E, I, O, U", "The vowels are **A, E, I, O and U**."),
    ("[what are the colours of the rainbow|name the colours of the rainbow|which colours are in a rainbow|what colors are in a rainbow]", "Red, orange, yellow, green, blue, indigo, violet", "The rainbow is red, orange, yellow, green, blue, indigo and violet."),
    ("[what do you do when you are tired|what should i do when i am tired|what helps when you are tired]", "Sleep", "When you are tired, **sleep** helps."),
    ("[what do you do when you are hungry|what helps when you are hungry|i am hungry, what now]", "Eat", "When you are hungry, it is time to **eat** something."),
    ("[what do you do when you are thirsty|what helps when you are thirsty|i am thirsty, what now]", "Drink", "When you are thirsty, **drink** some water."),
    ("[what language do people speak in france|what do people speak in france]", "French", "In France people speak **French**."),
    ("[what language do people speak in germany|what do people speak in germany]", "German", "In Germany people speak **German**."),
    ("[what language do people speak in spain|what do people speak in spain]", "Spanish", "In Spain people speak **Spanish**."),
    ("[what is the largest ocean|which ocean is the biggest|what is the biggest ocean]", "The Pacific", "The largest ocean is the **Pacific**."),
    ("[what is the highest mountain|which mountain is the highest|what is the tallest mountain]", "Everest", "The highest mountain is **Mount Everest**."),
    ("[what is h2o|what is the formula of water|what does h2o mean]", "Water", "H2O is **water**."),
    ("[what is half of ten|what is half of 10|what is ten divided by two]", "5", "Half of 10 is **5**."),
    ("[what is a pair|how many is a pair|how many shoes are in a pair]", "2", "A pair is **2** of something."),
    ("[who drives a bus|who drives the bus]", "A driver", "A bus **driver** drives it."),
    ("[who bakes bread|who makes bread]", "A baker", "A **baker** bakes bread."),
    ("[who works in a school|who teaches children|who works with pupils]", "A teacher", "In a school, a **teacher** works with children."),
    ("[who grows food|who works on a farm]", "A farmer", "A **farmer** works on a farm."),
    ("[who helps sick people|who works in a hospital]", "A doctor", "A **doctor** helps sick people."),
    ("[who puts out fires|who fights fires]", "A firefighter", "A **firefighter** puts out fires."),
]
