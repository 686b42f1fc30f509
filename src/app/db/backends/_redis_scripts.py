"""What Redis does in one step: scripts in Lua, sent once and then called by their digest.

Documents are JSON text that no script decodes: Lua's JSON loses `[]`, integers beyond 2**53 and `1.0`.
"""

import hashlib
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from redis.exceptions import NoScriptError

WRITE: Final = r"""
-- Insert, replace, delete or just compare documents and keep their index entries, all in one step.
-- KEYS: for each document its own, then its unique entries to remove, sets to leave, unique entries to have, and sets
-- to be in.
-- ARGV: the mode; the number of groups, and for each the prefix of document keys and the time to live (ms, '' for what
-- is left, 'none'); then for each document its group, the expected text ('' for none), the new text ('' to delete), and
-- how many of the KEYS there are of each sort ('' for none of any).
-- Modes: 'each' writes what is as expected; 'all' writes nothing unless all is, one after the other; 'together' as
-- well, and a unique entry that one of them removes is free for any other.
-- Answers 1 when everything was written, else for each document 1 or the text that is there instead of the expected.
local mode, groups, a = ARGV[1], {}, 3
for g = 1, tonumber(ARGV[2]) do
  groups[g] = {prefix = ARGV[a], ttl = ARGV[a + 1]}
  a = a + 2
end
local items, seen, expected, k = {}, {}, true, 1
for a = a, #ARGV, 4 do
  local key, group = KEYS[k], groups[tonumber(ARGV[a])]
  local present = seen[key] or redis.call('GET', key) or ''
  local item = {key = key, group = group, id = string.sub(key, #group.prefix + 1), present = present}
  k = k + 1
  item.new, item.fresh = ARGV[a + 2], present == ARGV[a + 1]
  item.changed = item.new ~= present
  seen[key] = item.new
  expected = expected and item.fresh
  for list = 1, 4 do item[list] = {} end
  local list = 1
  for count in string.gmatch(ARGV[a + 3], '%d+') do
    for n = 1, tonumber(count) do
      item[list][n] = KEYS[k]
      k = k + 1
    end
    list = list + 1
  end
  items[#items + 1] = item
end
local apply = expected or mode == 'each'
local claimed, released = {}, {}
local function release(item)
  for _, key in ipairs(item[1]) do
    released[key] = released[key] or {}
    released[key][item.id] = true
  end
end
if mode == 'together' then
  for _, item in ipairs(items) do release(item) end
end
for i, item in ipairs(items) do
  if apply and item.fresh then
    for n, key in ipairs(item[3]) do
      local owner = claimed[key]
      if not owner then
        owner = redis.call('GET', key)
        -- An entry whose document is gone, or has gone on, blocks nothing.
        if owner and owner ~= item.id and ((released[key] and released[key][owner])
            or redis.call('EXISTS', item.group.prefix .. owner) == 0) then
          owner = false
        end
      end
      if owner and owner ~= item.id then return redis.error_reply('DUPLICATE ' .. i .. ' ' .. n) end
      claimed[key] = item.id
    end
    release(item)
  end
end
local answers = {}
for i, item in ipairs(items) do
  if not (apply and item.fresh) then
    answers[i] = item.present
  else
    answers[i] = 1
    local ttl, left = item.group.ttl, -1
    if ttl == '' then
      left = redis.call('PTTL', item.key)
    elseif ttl ~= 'none' then
      left = tonumber(ttl)
    end
    if left == 0 then left = 1 end
    for _, key in ipairs(item[1]) do
      if redis.call('GET', key) == item.id then redis.call('DEL', key) end
    end
    for _, key in ipairs(item[2]) do redis.call('SREM', key, item.id) end
    if item.new == '' then
      if item.changed then redis.call('DEL', item.key) end
    else
      if ttl ~= '' and left > 0 then
        redis.call('SET', item.key, item.new, 'PX', left)
      elseif ttl == 'none' then
        redis.call('SET', item.key, item.new)
      elseif item.changed then
        redis.call('SET', item.key, item.new, 'KEEPTTL')
      end
      -- Entries end with their document; a set ends with the last of its members.
      for _, key in ipairs(item[3]) do
        if left > 0 then redis.call('SET', key, item.id, 'PX', left) else redis.call('SET', key, item.id) end
      end
      for _, key in ipairs(item[4]) do
        local had = redis.call('PTTL', key)
        redis.call('SADD', key, item.id)
        if left < 0 then
          if had >= 0 then redis.call('PERSIST', key) end
        elseif had == -2 or (had >= 0 and had < left) then
          redis.call('PEXPIRE', key, left)
        end
      end
    end
  end
end
if expected then return 1 end
return answers
"""

LOOKUP: Final = r"""
-- The documents that index entries lead to, or with ARGV[3] '0' a 1 for each. What a set has of documents that are
-- gone is taken out of it.
local found, command = {}, ARGV[3] == '1' and 'GET' or 'EXISTS'
for _, key in ipairs(KEYS) do
  local unique = ARGV[2] == '1'
  local ids = unique and {redis.call('GET', key) or nil} or redis.call('SMEMBERS', key)
  for _, id in ipairs(ids) do
    local text = redis.call(command, ARGV[1] .. id)
    if text and text ~= 0 then
      found[#found + 1] = text
    elseif not unique then
      redis.call('SREM', key, id)
    end
  end
end
return found
"""


@cache
def _digest(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


async def run(client: Any, script: str, keys: Sequence[str], arguments: Sequence[Any], *, read: bool = False) -> Any:
    """Run a script. Where the server has not got it (a restart), nothing was done, and it is sent whole."""
    try:
        return await client.execute_command("EVALSHA", _digest(script), len(keys), *keys, *arguments, read=read)
    except NoScriptError:
        return await client.execute_command("EVAL", script, len(keys), *keys, *arguments, read=read)
