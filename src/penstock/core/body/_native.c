/* One pass over a JSON object that checks it and finds its members; the contract is told in scanner.py.
 *
 * Pure functions of bytes. Nothing is allocated but the tuple that is returned, nothing recurses, and no byte before `start`
 * or from `end` on is read. Every reading function takes the position of a byte and gives the one after what it has read,
 * or NULL: then the whole object is left to the long way, which knows the words for what is wrong with it.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <stdint.h>
#include <string.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

typedef const unsigned char *Bytes;

/* As in scanner.py; a test compares them. */
enum { MAX_DEPTH = 256, MAX_NAMES = 64, MAX_WORDS = 8, MAX_NAME = 40, MAX_MARKS = 16 };
enum form {
    ANY, NAME, FLAG, WHOLE, NATURAL, POSITIVE, NUMBER, TEMPERATURE, OPTIONS, TURNS, ITEMS, TOOLS, TEXTS, FILLED, OBJECT, FORMS
};
enum { REQUIRED = 0x40, FORM = 0x3f };
enum { ESCAPED = 1 << MAX_MARKS };

/* Names, each as a byte of form, a byte of length, and the name itself. */
typedef struct {
    int count;
    Bytes names;
} Table;

/* A word to look for in lower case, and where in it the two letters are that are rarest in other texts. */
typedef struct {
    Bytes text;
    int size, rare;
} Word;

typedef struct {
    Bytes end;       /* one past the last byte */
    uint64_t values; /* how many objects, lists and members may still come */
    uint64_t entries; /* how many a list of turns, items or texts may hold */
    int wanted;      /* of how many names, the first of the table, the places are told */
    Table members, items, tools;
    int running, words; /* of all words the first are those that show a tool which runs a model */
    Word word[MAX_WORDS];
    int marks;           /* what strings may begin with that is told */
    Bytes mark[MAX_MARKS]; /* each as a byte of length, and itself */
    uint16_t first[256]; /* by the first letter: a bit for each mark that has it */
    unsigned marked;     /* a bit for each mark that a string begins with, and ESCAPED */
} Scan;

typedef struct {
    Bytes start, end; /* between the quotation marks */
    int escaped;
} Key;

/* ---- tokens */

static inline Bytes space(const Scan *scan, Bytes at)
{
    while (at < scan->end && (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t'))
        at++;
    return at;
}

static inline int counted(Scan *scan)
{
    if (scan->values == 0)
        return 0;
    scan->values--;
    return 1;
}

/* The first byte from `at` on that is a quotation mark, a backslash, a control character or no ASCII; else the end. */
static inline Bytes plain(Bytes at, Bytes end)
{
#if defined(__SSE2__)
    const __m128i quote = _mm_set1_epi8('"'), backslash = _mm_set1_epi8('\\'), blank = _mm_set1_epi8(0x20);
    while (end - at >= 16) {
        const __m128i piece = _mm_loadu_si128((const __m128i *)(const void *)at);
        /* as signed numbers the bytes that are no ASCII are below the space, too */
        const __m128i odd = _mm_or_si128(_mm_cmplt_epi8(piece, blank),
                                         _mm_or_si128(_mm_cmpeq_epi8(piece, quote), _mm_cmpeq_epi8(piece, backslash)));
        const unsigned found = (unsigned)_mm_movemask_epi8(odd);
        if (found)
            return at + __builtin_ctz(found);
        at += 16;
    }
#else
    const uint64_t ones = UINT64_C(0x0101010101010101), highs = UINT64_C(0x8080808080808080);
    while (end - at >= 8) {
        uint64_t piece;
        memcpy(&piece, at, 8);
        const uint64_t quote = piece ^ (ones * '"'), backslash = piece ^ (ones * '\\');
        if ((piece | (piece - ones * 0x20) | (quote - ones) | (backslash - ones)) & highs)
            break; /* perhaps: the loop below knows */
        at += 8;
    }
#endif
    while (at < end && *at != '"' && *at != '\\' && *at >= 0x20 && *at < 0x80)
        at++;
    return at;
}

static int hexadecimal(Bytes at, Bytes end)
{
    int value = 0;
    if (end - at < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        const unsigned char c = at[i];
        if (c >= '0' && c <= '9')
            value = value * 16 + (c - '0');
        else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
            value = value * 16 + ((c | 0x20) - 'a' + 10);
        else
            return -1;
    }
    return value;
}

/* At a backslash. Half a surrogate pair is no character. */
static Bytes escape(Bytes at, Bytes end)
{
    if (end - at < 2)
        return NULL;
    switch (at[1]) {
    case '"': case '\\': case '/': case 'b': case 'f': case 'n': case 'r': case 't':
        return at + 2;
    case 'u': {
        const int first = hexadecimal(at + 2, end);
        if (first < 0 || (first >= 0xDC00 && first < 0xE000))
            return NULL;
        at += 6;
        if (first < 0xD800 || first >= 0xE000)
            return at;
        if (end - at < 6 || at[0] != '\\' || at[1] != 'u')
            return NULL;
        const int second = hexadecimal(at + 2, end);
        return second >= 0xDC00 && second < 0xE000 ? at + 6 : NULL;
    }
    default:
        return NULL;
    }
}

static inline int follows(Bytes at)
{
    return (*at & 0xC0) == 0x80;
}

/* At a byte that is no ASCII: after the character, where it is one (no surrogate, no longer than need be). */
static Bytes character(Bytes at, Bytes end)
{
    const unsigned char first = at[0];
    const Py_ssize_t left = end - at;
    if (first >= 0xC2 && first <= 0xDF)
        return left >= 2 && follows(at + 1) ? at + 2 : NULL;
    if (first >= 0xE0 && first <= 0xEF) {
        if (left < 3 || !follows(at + 1) || !follows(at + 2))
            return NULL;
        return (first == 0xE0 && at[1] < 0xA0) || (first == 0xED && at[1] > 0x9F) ? NULL : at + 3;
    }
    if (first >= 0xF0 && first <= 0xF4) {
        if (left < 4 || !follows(at + 1) || !follows(at + 2) || !follows(at + 3))
            return NULL;
        return (first == 0xF0 && at[1] < 0x90) || (first == 0xF4 && at[1] > 0x8F) ? NULL : at + 4;
    }
    return NULL;
}

/* At the first letter of a string: notes which marks it begins with. */
static void note_marks(Scan *scan, Bytes at)
{
    for (unsigned found = scan->first[*at]; found; found &= found - 1) {
        const int i = __builtin_ctz(found);
        const Bytes mark = scan->mark[i];
        if (scan->end - at >= mark[0] && at[1] == mark[2] && memcmp(mark + 1, at, mark[0]) == 0)
            scan->marked |= 1u << i;
    }
}

/* At an escape that is whole: notes one of a letter of ASCII, or near to one. */
static inline void note_escape(Scan *scan, Bytes at)
{
    if (at[1] == 'u' && at[2] == '0' && at[3] == '0' && at[4] >= '5' && at[4] <= '7')
        scan->marked |= ESCAPED;
}

/* At a quotation mark. */
static Bytes text(Scan *scan, Bytes at, int *escaped)
{
    const Bytes end = scan->end;
    at++;
    if (at < end && scan->first[*at])
        note_marks(scan, at);
    for (;;) {
        at = plain(at, end);
        if (at >= end)
            return NULL;
        if (*at == '"')
            return at + 1;
        if (*at == '\\') {
            const Bytes begun = at;
            *escaped = 1;
            at = escape(at, end);
            if (at != NULL)
                note_escape(scan, begun);
        } else if (*at < 0x20) {
            return NULL;
        } else {
            do
                at = character(at, end);
            while (at != NULL && at < end && *at >= 0x80);
        }
        if (at == NULL)
            return NULL;
    }
}

static inline Bytes digits(Bytes at, Bytes end)
{
    while (at < end && *at >= '0' && *at <= '9')
        at++;
    return at;
}

static Bytes number(Bytes at, Bytes end)
{
    if (at < end && *at == '-')
        at++;
    if (at >= end || *at < '0' || *at > '9')
        return NULL;
    at = *at == '0' ? at + 1 : digits(at, end);
    if (at < end && *at == '.') {
        const Bytes fraction = at + 1;
        at = digits(fraction, end);
        if (at == fraction)
            return NULL;
    }
    if (at < end && (*at | 0x20) == 'e') {
        at++;
        if (at < end && (*at == '+' || *at == '-'))
            at++;
        const Bytes exponent = at;
        at = digits(exponent, end);
        if (at == exponent)
            return NULL;
    }
    return at;
}

static inline int spells(Bytes at, Bytes end, const char *word, Py_ssize_t size)
{
    return end - at >= size && memcmp(at, word, (size_t)size) == 0;
}

/* At anything but a bracket. */
static Bytes scalar(Scan *scan, Bytes at)
{
    int escaped = 0;
    switch (*at) {
    case '"':
        return text(scan, at, &escaped);
    case 't':
        return spells(at, scan->end, "true", 4) ? at + 4 : NULL;
    case 'n':
        return spells(at, scan->end, "null", 4) ? at + 4 : NULL;
    case 'f':
        return spells(at, scan->end, "false", 5) ? at + 5 : NULL;
    default:
        return number(at, scan->end);
    }
}

/* ---- members and elements, one at a time */

/* After `{` (first) or after a member: at the next one's value, or after `}` with no key. */
static Bytes next_member(Scan *scan, Bytes at, int first, Key *key)
{
    key->start = NULL;
    at = space(scan, at);
    if (at >= scan->end)
        return NULL;
    if (*at == '}')
        return at + 1;
    if (!first) {
        if (*at != ',' || !counted(scan))
            return NULL;
        at = space(scan, at + 1);
    }
    if (at >= scan->end || *at != '"')
        return NULL;
    key->escaped = 0;
    const Bytes after = text(scan, at, &key->escaped);
    if (after == NULL)
        return NULL;
    const Bytes start = at + 1;
    at = space(scan, after);
    if (at >= scan->end || *at != ':')
        return NULL;
    at = space(scan, at + 1);
    if (at >= scan->end)
        return NULL;
    key->start = start;
    key->end = after - 1;
    return at;
}

/* After `[` (first) or after an element: at the next one, or after `]` with `last` set. */
static Bytes next_element(Scan *scan, Bytes at, int first, int *last)
{
    at = space(scan, at);
    if (at >= scan->end)
        return NULL;
    *last = *at == ']';
    if (*last)
        return at + 1;
    if (!first) {
        if (*at != ',' || !counted(scan))
            return NULL;
        at = space(scan, at + 1);
        if (at >= scan->end)
            return NULL;
    }
    return at;
}

/* Any value; `depth` brackets are open round it. A bit for each open bracket tells objects from lists. */
static Bytes value(Scan *scan, Bytes at, int depth)
{
    uint64_t kinds[MAX_DEPTH / 64] = {0};
    const int outside = depth;
    int first = 0;
    for (;;) {
        /* at a value */
        if (*at == '{' || *at == '[') {
            if (depth >= MAX_DEPTH || !counted(scan))
                return NULL;
            const uint64_t bit = UINT64_C(1) << (depth % 64);
            kinds[depth / 64] = *at == '{' ? kinds[depth / 64] | bit : kinds[depth / 64] & ~bit;
            depth++;
            at++;
            first = 1;
        } else {
            at = scalar(scan, at);
            if (at == NULL)
                return NULL;
            first = 0;
        }
        /* after a value, or after an opening bracket: to the next value */
        for (;;) {
            if (depth == outside)
                return at;
            int closed;
            if (kinds[(depth - 1) / 64] >> ((depth - 1) % 64) & 1) {
                Key key;
                at = next_member(scan, at, first, &key);
                closed = key.start == NULL;
            } else {
                at = next_element(scan, at, first, &closed);
            }
            if (at == NULL)
                return NULL;
            if (!closed)
                break;
            depth--;
            first = 0;
        }
    }
}

/* ---- names and words */

/* The key without its escapes, where that is ASCII and not longer than a name may be; else nothing (-1). */
static int unescaped(const Key *key, unsigned char *name)
{
    int size = 0;
    for (Bytes at = key->start; at < key->end; size++) {
        if (size == MAX_NAME)
            return -1;
        if (*at != '\\') {
            name[size] = *at++;
        } else if (at[1] != 'u') {
            /* none of the characters that have an escape of their own is in a name */
            return -1;
        } else {
            const int code = hexadecimal(at + 2, key->end);
            if (code < 0 || code >= 0x80)
                return -1;
            name[size] = (unsigned char)code;
            at += 6;
        }
    }
    return size;
}

/* Which of the table's names the key is, escaped or not; -1 where none. */
static int find_name(const Table *table, const Key *key, int *form)
{
    unsigned char buffer[MAX_NAME];
    Bytes name = key->start;
    Py_ssize_t size = key->end - key->start;
    if (key->escaped) {
        size = unescaped(key, buffer);
        name = buffer;
    }
    Bytes entry = table->names;
    for (int i = 0; i < table->count; i++) {
        if (entry[1] == size && memcmp(entry + 2, name, (size_t)size) == 0) {
            *form = entry[0];
            return i;
        }
        entry += 2 + entry[1];
    }
    return -1;
}

static int is_name(const Key *key, const char *name, Py_ssize_t size)
{
    unsigned char buffer[MAX_NAME];
    if (!key->escaped)
        return key->end - key->start == size && memcmp(key->start, name, (size_t)size) == 0;
    return unescaped(key, buffer) == size && memcmp(buffer, name, (size_t)size) == 0;
}

/* How a letter of ASCII can be written that a search for a word does not find. */
static int may_hide_a_letter(Bytes at, Bytes end)
{
    if (*at == 0xC5)
        return end - at >= 2 && at[1] == 0xBF; /* the long s */
    if (*at == 0xE2)
        return end - at >= 3 && at[1] == 0x84 && at[2] == 0xAA; /* the sign of Kelvin */
    if (*at != '\\' || end - at < 6 || at[1] != 'u')
        return 0;
    if (at[2] == '0' && at[3] == '0')
        return at[4] >= '2' && at[4] <= '7';
    return (at[2] == '0' && at[3] == '1' && at[4] == '7' && (at[5] | 0x20) == 'f')
        || (at[2] == '2' && at[3] == '1' && at[4] == '2' && (at[5] | 0x20) == 'a');
}

static inline unsigned char lower(unsigned char c)
{
    return c >= 'A' && c <= 'Z' ? (unsigned char)(c | 0x20) : c;
}

/* Whether the word is where its rare letters are at `at`. */
static int is_word(const Word *word, Bytes start, Bytes at, Bytes end)
{
    at -= word->rare < at - start ? word->rare : at - start;
    if (end - at < word->size)
        return 0;
    for (int i = 0; i < word->size; i++)
        if (lower(at[i]) != word->text[i])
            return 0;
    return 1;
}

static int shows(const Scan *scan, int count, Bytes start, Bytes at, Bytes end)
{
    for (int i = 0; i < count; i++)
        if (is_word(&scan->word[i], start, at, end))
            return 1;
    return may_hide_a_letter(at, end);
}

/* Whether one of the first `count` words is in JSON text, or may be there in other letters. */
static int hides(const Scan *scan, int count, Bytes start, Bytes end)
{
    Bytes at = start;
#if defined(__SSE2__)
    const __m128i low = _mm_set1_epi8(0x20);
    while (end - at >= 17) {
        const __m128i piece = _mm_loadu_si128((const __m128i *)(const void *)at);
        const __m128i next = _mm_loadu_si128((const __m128i *)(const void *)(at + 1));
        const __m128i here = _mm_or_si128(piece, low), there = _mm_or_si128(next, low);
        __m128i any = _mm_and_si128(_mm_cmpeq_epi8(piece, _mm_set1_epi8('\\')), _mm_cmpeq_epi8(next, _mm_set1_epi8('u')));
        any = _mm_or_si128(any, _mm_cmpeq_epi8(piece, _mm_set1_epi8((char)0xC5)));
        any = _mm_or_si128(any, _mm_cmpeq_epi8(piece, _mm_set1_epi8((char)0xE2)));
        for (int i = 0; i < count; i++) {
            const Bytes rare = scan->word[i].text + scan->word[i].rare;
            any = _mm_or_si128(any, _mm_and_si128(_mm_cmpeq_epi8(here, _mm_set1_epi8((char)(rare[0] | 0x20))),
                                                  _mm_cmpeq_epi8(there, _mm_set1_epi8((char)(rare[1] | 0x20)))));
        }
        for (unsigned found = (unsigned)_mm_movemask_epi8(any); found; found &= found - 1)
            if (shows(scan, count, start, at + __builtin_ctz(found), end))
                return 1;
        at += 16;
    }
#endif
    for (; at < end; at++)
        if (shows(scan, count, start, at, end))
            return 1;
    return 0;
}

/* ---- what a member's value has to be */

static int is_null(Bytes at, Bytes end)
{
    return end - at == 4 && *at == 'n';
}

static int is_flag(Bytes at)
{
    return *at == 't' || *at == 'f' || *at == 'n';
}

/* A string without escapes in which something is to be seen. */
static int is_readable(Bytes at, Bytes end, int escaped)
{
    if (*at != '"' || escaped)
        return 0;
    for (at++; at < end - 1; at++)
        if (*at > 0x20 && *at < 0x7F)
            return 1;
    return 0;
}

/* An integer of at most 18 digits. */
static int is_whole(Bytes at, Bytes end, enum form form)
{
    if (form == WHOLE && *at == '-')
        at++;
    return at < end && end - at <= 18 && digits(at, end) == end && (form != POSITIVE || *at != '0');
}

/* A number without exponent, at most 15 digits on each side of the point. */
static int is_number(Bytes at, Bytes end, enum form form)
{
    if (form == NUMBER && at < end && *at == '-')
        at++;
    const Bytes whole = at;
    at = digits(at, end);
    if (at == whole || at - whole > 15)
        return 0;
    if (form == TEMPERATURE && (at - whole > 1 || *whole > '2'))
        return 0;
    if (at == end)
        return 1;
    const Bytes fraction = at + 1;
    if (*at != '.' || end - fraction > 15 || digits(fraction, end) != end)
        return 0;
    if (form == TEMPERATURE && *whole == '2')
        for (at = fraction; at < end; at++)
            if (*at != '0')
                return 0;
    return 1;
}

static int is_fit(enum form form, Bytes at, Bytes end, int escaped)
{
    switch (form) {
    case NAME:
        return is_readable(at, end, escaped);
    case FLAG:
        return is_flag(at);
    case WHOLE: case NATURAL: case POSITIVE:
        return is_null(at, end) || is_whole(at, end, form);
    case NUMBER: case TEMPERATURE:
        return is_null(at, end) || is_number(at, end, form);
    case FILLED:
        if (*at != '[')
            return 0;
        do
            at++;
        while (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t');
        return *at != ']';
    case OBJECT:
        return *at == '{';
    default:
        return 1;
    }
}

/* At the value of `stream_options`: null, or an object whose `include_usage` is a flag. */
static Bytes options(Scan *scan, Bytes at)
{
    if (*at == 'n')
        return scalar(scan, at);
    if (*at != '{' || !counted(scan))
        return NULL;
    Key key;
    at++;
    for (int first = 1;; first = 0) {
        at = next_member(scan, at, first, &key);
        if (at == NULL || key.start == NULL)
            return at;
        if (is_name(&key, "include_usage", 13) && !is_flag(at))
            return NULL;
        at = value(scan, at, 2);
        if (at == NULL)
            return NULL;
    }
}

/* At `{` of a turn: it has a role that is a string, and its content is a string, a list, null or not there. */
static Bytes turn(Scan *scan, Bytes at)
{
    Key key;
    int role = 0, content = 1;
    if (*at != '{' || !counted(scan))
        return NULL;
    at++;
    for (int first = 1;; first = 0) {
        at = next_member(scan, at, first, &key);
        if (at == NULL)
            return NULL;
        if (key.start == NULL)
            return role && content ? at : NULL;
        if (is_name(&key, "role", 4)) {
            if (*at != '"')
                return NULL;
            role = 1;
        } else if (is_name(&key, "content", 7)) {
            content = *at == '"' || *at == '[' || *at == 'n'; /* the last one counts */
        }
        at = value(scan, at, 3);
        if (at == NULL)
            return NULL;
    }
}

/* At `{` of an item of Responses: all of its names are ordinary, and it refers to nothing that would be stored. */
static Bytes item(Scan *scan, Bytes at)
{
    Key key;
    int form, referring = 0, only_id = 1, any = 0;
    if (*at != '{' || !counted(scan))
        return NULL;
    at++;
    for (int first = 1;; first = 0) {
        at = next_member(scan, at, first, &key);
        if (at == NULL)
            return NULL;
        if (key.start == NULL)
            return referring || (any && only_id) ? NULL : at;
        const int name = find_name(&scan->items, &key, &form);
        if (name < 0)
            return NULL;
        any = 1;
        only_id = only_id && name == 1;
        const Bytes start = at;
        at = value(scan, at, 3);
        if (at == NULL)
            return NULL;
        if (name == 0) /* the last type counts */
            referring = at - start == 16 && memcmp(start, "\"item_reference\"", 16) == 0;
    }
}

/* At a tool. `plain` stays only where it is an object of ordinary names, and the caller runs it. */
static Bytes tool(Scan *scan, Bytes at, int *plain)
{
    Key key;
    int form, own = 1, ordinary = 1;
    if (*at != '{') {
        *plain = 0;
        return value(scan, at, 2);
    }
    if (!counted(scan))
        return NULL;
    at++;
    for (int first = 1;; first = 0) {
        at = next_member(scan, at, first, &key);
        if (at == NULL)
            return NULL;
        if (key.start == NULL) {
            *plain = *plain && own && ordinary;
            return at;
        }
        const int name = find_name(&scan->tools, &key, &form);
        const Bytes start = at;
        at = value(scan, at, 3);
        if (at == NULL)
            return NULL;
        if (name < 0)
            ordinary = 0;
        else if (name == 0) /* the last type counts */
            own = is_null(start, at) || (at - start == 10 && memcmp(start, "\"function\"", 10) == 0)
                || (at - start == 8 && memcmp(start, "\"custom\"", 8) == 0);
    }
}

/* At the value of `tools`: nothing in it runs a model or names one. */
static Bytes tools(Scan *scan, Bytes at)
{
    const Bytes start = at;
    int plain = 1, last;
    if (*at != '[') {
        plain = 0;
        at = value(scan, at, 1);
        if (at == NULL)
            return NULL;
    } else {
        if (!counted(scan))
            return NULL;
        at++;
        for (int first = 1;; first = 0) {
            at = next_element(scan, at, first, &last);
            if (at == NULL)
                return NULL;
            if (last)
                break;
            at = tool(scan, at, &plain);
            if (at == NULL)
                return NULL;
        }
    }
    return hides(scan, plain ? scan->running : scan->words, start, at) ? NULL : at;
}

/* At the value of `messages` or `input`: a list of as many turns or items as there may be. */
static Bytes list(Scan *scan, Bytes at, enum form form)
{
    uint64_t count = 0;
    int last;
    if (*at != '[' || !counted(scan))
        return NULL;
    at++;
    for (int first = 1;; first = 0) {
        at = next_element(scan, at, first, &last);
        if (at == NULL)
            return NULL;
        if (last)
            return count || form == ITEMS ? at : NULL;
        if (++count > scan->entries)
            return NULL;
        at = form == TURNS ? turn(scan, at) : item(scan, at);
        if (at == NULL)
            return NULL;
    }
}

/* At the value of `input` of embeddings: a text, or a list of nothing but texts or nothing but token ids. */
static Bytes texts(Scan *scan, Bytes at)
{
    int escaped = 0, last;
    uint64_t strings = 0, ids = 0;
    if (*at == '"') {
        const Bytes after = text(scan, at, &escaped);
        return after != NULL && after - at > 2 ? after : NULL;
    }
    if (*at != '[' || !counted(scan))
        return NULL;
    at++;
    for (int first = 1;; first = 0) {
        at = next_element(scan, at, first, &last);
        if (at == NULL)
            return NULL;
        if (last)
            return (strings > 0) != (ids > 0) && strings <= scan->entries ? at : NULL;
        if (*at == '"') {
            strings++;
            at = text(scan, at, &escaped);
        } else {
            const Bytes start = at;
            ids++;
            at = digits(at, scan->end);
            if (at == start || (*start == '0' && at - start > 1))
                return NULL;
        }
        if (at == NULL)
            return NULL;
    }
}

static Bytes member(Scan *scan, Bytes at, enum form form)
{
    const Bytes start = at;
    int escaped = 0;
    switch (form) {
    case OPTIONS:
        return options(scan, at);
    case TURNS:
        return list(scan, at, form);
    case ITEMS:
        return *at == '"' ? text(scan, at, &escaped) : list(scan, at, form);
    case TOOLS:
        return tools(scan, at);
    case TEXTS:
        return texts(scan, at);
    default:
        at = *at == '"' ? text(scan, at, &escaped) : value(scan, at, 1);
        return at != NULL && is_fit(form, start, at, escaped) ? at : NULL;
    }
}

/* ---- the object */

/* After the closing bracket of the object; `close` and the places of the wanted members are told. */
static Bytes object(Scan *scan, Bytes at, Bytes *close, Bytes *starts, Bytes *ends)
{
    uint64_t seen = 0, required = 0;
    Bytes entry = scan->members.names;
    for (int i = 0; i < scan->members.count; i++) {
        if (entry[0] & REQUIRED)
            required |= UINT64_C(1) << i;
        entry += 2 + entry[1];
    }
    if (*at != '{' || !counted(scan))
        return NULL;
    at++;
    for (int first = 1;; first = 0) {
        Key key;
        int form;
        at = next_member(scan, at, first, &key);
        if (at == NULL)
            return NULL;
        if (key.start == NULL)
            break;
        const int name = key.escaped ? -1 : find_name(&scan->members, &key, &form);
        if (name < 0 || (seen >> name & 1))
            return NULL;
        seen |= UINT64_C(1) << name;
        const Bytes start = at;
        at = member(scan, at, (enum form)(form & FORM));
        if (at == NULL || ((form & REQUIRED) && *start == 'n'))
            return NULL;
        if (name < scan->wanted) {
            starts[name] = start;
            ends[name] = at;
        }
    }
    *close = at - 1;
    return (seen & required) == required ? at : NULL;
}

/* ---- Python's side */

static uint64_t little_endian(Bytes at)
{
    uint64_t number = 0;
    for (int i = 7; i >= 0; i--)
        number = number << 8 | at[i];
    return number;
}

/* One table of the rules; NULL where they are not whole. */
static Bytes read_table(Table *table, Bytes at, Bytes end)
{
    if (at >= end || *at > MAX_NAMES)
        return NULL;
    table->count = *at++;
    table->names = at;
    for (int i = 0; i < table->count; i++) {
        if (end - at < 2 || at[1] > MAX_NAME || end - at < 2 + at[1] || (at[0] & FORM) >= FORMS)
            return NULL;
        at += 2 + at[1];
    }
    return at;
}

/* The rules as scanner.py packs them: two numbers, the wanted, three tables, the words, the marks. */
static int read_rules(Scan *scan, Bytes at, Bytes end)
{
    if (end - at < 17)
        return 0;
    scan->values = little_endian(at);
    scan->entries = little_endian(at + 8);
    scan->wanted = at[16];
    at = read_table(&scan->members, at + 17, end);
    at = at == NULL ? NULL : read_table(&scan->items, at, end);
    at = at == NULL ? NULL : read_table(&scan->tools, at, end);
    if (at == NULL || scan->wanted > scan->members.count || end - at < 2 || at[1] > MAX_WORDS || at[0] > at[1])
        return 0;
    scan->running = at[0];
    scan->words = at[1];
    at += 2;
    for (int i = 0; i < scan->words; i++) {
        if (end - at < 2 || end - at < 2 + at[1] || at[0] + 2 > at[1])
            return 0;
        scan->word[i] = (Word){at + 2, at[1], at[0]};
        at += 2 + at[1];
    }
    if (at >= end || *at > MAX_MARKS)
        return 0;
    scan->marks = *at++;
    memset(scan->first, 0, sizeof scan->first);
    for (int i = 0; i < scan->marks; i++) {
        /* a second letter is compared before there is a call */
        if (end - at < 1 || at[0] < 2 || end - at < 1 + at[0])
            return 0;
        scan->mark[i] = at;
        scan->first[at[1]] |= (uint16_t)(1u << i);
        at += 1 + at[0];
    }
    scan->marked = 0;
    return at == end;
}

static int put(PyObject *tuple, Py_ssize_t at, Py_ssize_t number)
{
    PyObject *integer = PyLong_FromSsize_t(number);
    return integer != NULL && PyTuple_SetItem(tuple, at, integer) == 0;
}

static PyObject *spans_of(Bytes origin, Bytes open, Bytes close, const Scan *scan, const Bytes *starts, const Bytes *ends)
{
    const int wanted = scan->wanted;
    PyObject *spans = PyTuple_New(3 + 2 * (Py_ssize_t)wanted);
    if (spans == NULL)
        return NULL;
    int whole = put(spans, 0, open - origin) && put(spans, 1, close - origin)
        && put(spans, 2 + 2 * (Py_ssize_t)wanted, (Py_ssize_t)scan->marked);
    for (int i = 0; whole && i < wanted; i++) {
        const int there = starts[i] != NULL;
        whole = put(spans, 2 + 2 * i, there ? starts[i] - origin : 0)
            && put(spans, 3 + 2 * i, there ? ends[i] - origin : 0);
    }
    if (!whole) {
        Py_DECREF(spans);
        return NULL;
    }
    return spans;
}

PyDoc_STRVAR(scan_doc, "scan(data, start, end, rules, /)\n--\n\nThe spans of the wanted members, or None; see scanner.py.");

/* The name of the attribute that the packed rules are under, made once for each interpreter. */
typedef struct {
    PyObject *packed;
} State;

static int find_spans(const char *data, Py_ssize_t start, Py_ssize_t end, PyObject *packed, PyObject **spans)
{
    char *rules;
    Py_ssize_t size;
    Scan scan;
    Bytes starts[MAX_NAMES] = {NULL}, ends[MAX_NAMES] = {NULL}, close = NULL;
    if (PyBytes_AsStringAndSize(packed, &rules, &size) < 0)
        return -1;
    if (!read_rules(&scan, (Bytes)rules, (Bytes)rules + size)) {
        PyErr_SetString(PyExc_ValueError, "scan: the rules are not packed well");
        return -1;
    }
    const Bytes origin = (Bytes)data;
    scan.end = origin + end;
    const Bytes open = space(&scan, origin + start);
    const Bytes after = open < scan.end ? object(&scan, open, &close, starts, ends) : NULL;
    if (after == NULL || space(&scan, after) != scan.end)
        return 0;
    *spans = spans_of(origin, open, close, &scan, starts, ends);
    return *spans == NULL ? -1 : 0;
}

static PyObject *scan_object(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    char *data;
    Py_ssize_t size;
    if (count != 4) {
        PyErr_SetString(PyExc_TypeError, "scan takes data, start, end and rules");
        return NULL;
    }
    if (PyBytes_AsStringAndSize(arguments[0], &data, &size) < 0)
        return NULL;
    const Py_ssize_t start = PyLong_AsSsize_t(arguments[1]), end = PyLong_AsSsize_t(arguments[2]);
    if (PyErr_Occurred())
        return NULL;
    if (start < 0 || end < start || end > size) {
        PyErr_SetString(PyExc_ValueError, "scan: start and end are outside of the data");
        return NULL;
    }
    PyObject *packed = PyObject_GetAttr(arguments[3], ((State *)PyModule_GetState(module))->packed);
    if (packed == NULL)
        return NULL;
    PyObject *spans = NULL;
    const int failed = find_spans(data, start, end, packed, &spans);
    Py_DECREF(packed);
    if (failed)
        return NULL;
    if (spans == NULL)
        Py_RETURN_NONE;
    return spans;
}

static PyMethodDef methods[] = {
    {"scan", (PyCFunction)(void (*)(void))scan_object, METH_FASTCALL, scan_doc},
    {NULL, NULL, 0, NULL},
};

static int fill(PyObject *module)
{
    State *state = PyModule_GetState(module);
    state->packed = PyUnicode_InternFromString("packed");
    return state->packed == NULL ? -1 : 0;
}

static int clear(PyObject *module)
{
    State *state = PyModule_GetState(module);
    Py_CLEAR(state->packed);
    return 0;
}

static void destroy(void *module)
{
    clear(module);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)fill},
    {0, NULL},
};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_native",
    .m_doc = "Checks a JSON object and finds its members in one pass; see scanner.py.",
    .m_size = sizeof(State),
    .m_methods = methods,
    .m_slots = slots,
    .m_clear = clear,
    .m_free = destroy,
};

PyMODINIT_FUNC PyInit__native(void);

PyMODINIT_FUNC PyInit__native(void)
{
    return PyModuleDef_Init(&definition);
}
