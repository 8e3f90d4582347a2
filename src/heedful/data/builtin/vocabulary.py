"""The words and sentences that the computed families draw from: nothing enters, constants leave."""

WORDS = """
garden planet bridge window yellow candle forest silver kitchen blanket morning teacher library mountain
elephant umbrella notebook sandwich calendar hospital triangle football dinosaur festival adventure butterfly
chocolate crocodile furniture landscape telescope wonderful strawberry watermelon television helicopter
apple river table cloud stone music tiger lemon chair bread train paper plant horse money night ocean
cat sun box key map leaf moon rain snow ship farm road desk lamp bird fish door king
""".split()  # noqa: SIM905 (words read better than seventy quoted strings)

SENTENCES = """
The kite flew over the hill.
My sister plays the violin.
We ate warm soup on a cold evening.
The baker opens his shop at six.
A small boat drifted across the quiet lake.
Our neighbors have two friendly dogs.
The museum was closed on Monday.
Grandmother keeps her buttons in a glass jar.
Seven ducks followed the farmer home.
He forgot his hat at the station.
The old clock ticks louder than the new one.
Snow covered the roof and the fence.
I found a coin under the sofa.
Children like to jump in puddles after the rain.
The pilot smiled.
Please bring three chairs into the hall.
Nobody saw the fox behind the barn.
Fresh mint grows near the kitchen door.
The train to the coast was late again this morning.
Maria painted the gate green.
""".strip().splitlines()

PHRASES = """
green apples taste sweet
cold winter night
open the big window
three blind mice
walk along the river
two cups of tea
never stop learning
the road to the sea
early morning coffee
red yellow blue
birds sing at dawn
a house on the hill
summer garden party
keep the door closed
music for quiet evenings
lost and found
bread butter jam
the last train home
fresh fish every day
paper boats float
under the old oak
good friends stay close
rainy day games
north south east west
learn to swim
a letter from grandmother
stars above the desert
small steps count
the story of a lighthouse
happy birthday dear friend
pancakes with lemon
five little ducks
the secret forest path
wind in the trees
clean hands save lives
a map of the islands
slow and steady
dancing in the kitchen
""".strip().splitlines()

GROUPS = [
    line.split()
    for line in """
banana cherry apple mango
otter badger weasel fox
spoon knife fork plate
violin flute cello drum
rose tulip daisy lily
table chair sofa lamp
oak birch maple pine
France Egypt Chile Japan
milk juice water tea
hammer saw drill wrench
eagle robin owl duck
shirt jacket hat gloves
soccer tennis hockey golf
Mars Venus Earth Saturn
copper iron tin zinc
onion carrot leek potato
Monday Friday Sunday Tuesday
bus train car plane
Anna Peter Lucy Mark
nose ear mouth chin
doctor lawyer baker nurse
river lake ocean pond
""".strip().splitlines()
]

FRIENDS = ["Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Henry", "Iris", "Jack", "Kate", "Leo"]
CITIES = ["Lisbon", "Oslo", "Toronto", "Nairobi", "Boston", "Dublin", "Seville", "Hanoi", "Perth", "Lyon"]
JOBS = ["nurse", "pilot", "farmer", "chef", "teacher", "plumber", "dentist", "painter", "librarian", "tailor"]
