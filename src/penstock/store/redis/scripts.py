"""Redis scripts, one step each: slots end in Redis's own time, and no count goes over a limit.

Every key of a script belongs to one user, so that a cluster keeps them together.
"""

from penstock.store.redis.answers import is_admission, is_amount, is_number, is_place, is_texts
from penstock.store.redis.link import RedisScript

_NOW = "local t = redis.call('TIME') local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"
_COUNT = """local used = redis.call('GET', day)
if not used then return {1, -1, 0} end
if tonumber(used) >= tonumber(daily) then return {1, 0, tonumber(used)} end
return {1, 1, redis.call('INCR', day)}"""

ADMIT = RedisScript(
    _NOW
    + """local slots, day, daily = KEYS[1], KEYS[2], ARGV[4]
redis.call('ZREMRANGEBYSCORE', slots, '-inf', now)
local taken = redis.call('ZCARD', slots)
if taken >= tonumber(ARGV[1]) then return {0, redis.call('ZRANGE', slots, 0, -1)} end
redis.call('ZADD', slots, now + ARGV[3], ARGV[2])
redis.call('PEXPIRE', slots, ARGV[3] * 4)
"""
    + _COUNT,
    is_admission,
)
"""A slot and a place in the day. Keys: slots, day. Arguments: how many slots, who takes one, for how many milliseconds, how
many requests a day. Answers ``{0, [who has them]}``, or ``{1, counted, used}``: 1 counted, 0 the day is spent, -1 the day's
count is not there."""

COUNT = RedisScript("local day, daily = KEYS[1], ARGV[1]\n" + _COUNT, is_place)
"""A place in the day alone, for whoever has a slot. Key: day. Answers as ``ADMIT``."""

RENEW = RedisScript(
    _NOW
    + """for number = 2, #ARGV do redis.call('ZADD', KEYS[1], now + ARGV[1], ARGV[number]) end
redis.call('PEXPIRE', KEYS[1], ARGV[1] * 4)
return redis.call('ZCOUNT', KEYS[1], now, '+inf')""",
    is_amount,
)
"""Those who have slots live on. Key: slots. Arguments: for how many milliseconds, and who. Answers how many are taken."""

LOOK = RedisScript(
    _NOW
    + """redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
return redis.call('ZRANGE', KEYS[1], 0, -1)""",
    is_texts,
)
"""Who has slots. Key: slots."""

ADD = RedisScript(
    """local used = redis.call('GET', KEYS[1])
if not used then return -1 end
return redis.call('SET', KEYS[1], math.max(0, used + ARGV[1]), 'KEEPTTL') and 1""",
    is_number,
)
"""More or fewer in a day that is there. Key: day."""

PUT_RIGHT = RedisScript(
    """if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
return 1""",
    is_number,
)
"""Another number for a day's, if that has not changed. Key: day. Arguments: what it was, what it is to be."""

SCRIPTS = (ADMIT, COUNT, RENEW, LOOK, ADD, PUT_RIGHT)
