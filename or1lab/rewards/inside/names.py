"""Names that starter code of coding sites uses without importing them: supplied where code mentions them."""

SITE_NAMES = {
    "typing": "Any Callable DefaultDict Deque Dict Iterable Iterator List Optional Sequence Set Tuple Union",
    "collections": "Counter OrderedDict defaultdict deque namedtuple",
    "heapq": "heapify heappop heappush heappushpop heapreplace merge nlargest nsmallest",
    "bisect": "bisect bisect_left bisect_right insort insort_left insort_right",
    "itertools": "accumulate chain combinations combinations_with_replacement count cycle groupby islice pairwise "
                 "permutations product repeat starmap takewhile zip_longest",
    "functools": "cache cmp_to_key lru_cache partial reduce wraps",
    "math": "ceil comb cos dist exp factorial floor gcd hypot inf isqrt lcm log log10 log2 nan perm pi prod sin sqrt",
    "operator": "itemgetter xor",
    "copy": "deepcopy",
    "string": "ascii_letters ascii_lowercase ascii_uppercase digits",
    "random": "choice randint shuffle",
}  # fmt: skip
MODULES = "bisect collections copy functools heapq itertools json math operator os random re string sys typing"
SITE_MODULES = frozenset(MODULES.split())
HOME = {name: module for module, names in SITE_NAMES.items() for name in names.split()}
