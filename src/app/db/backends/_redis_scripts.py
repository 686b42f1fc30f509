"""What Redis does in one step: scripts in Lua, sent once and then called by their digest.

Documents are JSON text that no script decodes: Lua's JSON loses `[]`, integers beyond 2**53 and `1.0`.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Final

from redis.exceptions import NoScriptError

WRITE: Final = r"""
-- Insert, replace or delete documents and keep their index entries, all in one step.
-- ARGV: whether nothing is written unless everything is as expected; ms to live, or '' for what is left; the prefix of
-- document keys; then for each document: expected text ('' for none), new text ('' to delete), id, and how many
-- of the KEYS after its own are unique entries to remove, sets to leave, unique entries to have, sets to be in.
-- Answers for each 1, or the text that is there instead of the expected one.
local all, ttl, prefix = ARGV[1] == '1', ARGV[2], ARGV[3]
local items, seen, expected, k = {}, {}, true, 1
for a = 4, #ARGV, 7 do
  local item = {key = KEYS[k], new = ARGV[a + 1], id = ARGV[a + 2], present = redis.call('GET', KEYS[k]) or ''}
  k = k + 1
  if seen[item.key] then item.present = seen[item.key] end
  seen[item.key] = item.new
  item.fresh = item.present == ARGV[a]
  item.inserted = ARGV[a] == ''
  expected = expected and item.fresh
  for list = 1, 4 do
    item[list] = {}
    for n = 1, tonumber(ARGV[a + 2 + list]) do
      item[list][n] = KEYS[k]
      k = k + 1
    end
  end
  items[#items + 1] = item
end
local apply = expected or not all
local claimed = {}
for i, item in ipairs(items) do
  if apply and item.fresh then
    for n, key in ipairs(item[3]) do
      local owner = claimed[key] or redis.call('GET', key)
      -- An entry whose document is gone blocks nothing.
      if owner and owner ~= item.id and (claimed[key] or redis.call('EXISTS', prefix .. owner) == 1) then
        return redis.error_reply('DUPLICATE ' .. i .. ' ' .. n)
      end
      claimed[key] = item.id
    end
  end
end
local answers = {}
for i, item in ipairs(items) do
  if not (apply and item.fresh) then
    answers[i] = item.present
  else
    answers[i] = 1
    local left = -1
    if ttl ~= '' then
      left = tonumber(ttl)
    elseif not item.inserted then
      left = redis.call('PTTL', item.key)
    end
    if left == 0 then left = 1 end
    for _, key in ipairs(item[1]) do
      if redis.call('GET', key) == item.id then redis.call('DEL', key) end
    end
    for _, key in ipairs(item[2]) do redis.call('SREM', key, item.id) end
    if item.new == '' then
      redis.call('DEL', item.key)
    else
      if ttl ~= '' then
        redis.call('SET', item.key, item.new, 'PX', left)
      elseif item.inserted then
        redis.call('SET', item.key, item.new)
      else
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
return answers
"""

SPLICE: Final = r"""
-- Replace top-level values in the text of a document, and add to the ends of lists, without decoding it.
-- ARGV: ms to live or '', whether to answer the text, and how many guards, changes, appends and increments follow:
-- names that must be null or missing; name, name as JSON and value as JSON; name, name as JSON and item as JSON; name,
-- name as JSON and a whole number.
-- Answers nil when there is no document or a guard does not hold, and 0, with nothing changed, for a sum that Lua's
-- numbers cannot hold exactly.
local text = redis.call('GET', KEYS[1])
if not text then return false end
local find, sub = string.find, string.sub

local function string_end(at)
  at = find(text, '["\\]', at + 1)
  while sub(text, at, at) == '\\' do at = find(text, '["\\]', at + 2) end
  return at
end

local function value_end(at)
  local first = sub(text, at, at)
  if first == '"' then return string_end(at) end
  if first ~= '{' and first ~= '[' then
    local _, last = find(text, '^[^,}%s]+', at)
    return last
  end
  local depth = 0
  while true do
    at = find(text, '["%[%]{}]', at)
    local c = sub(text, at, at)
    if c == '"' then
      at = string_end(at)
    elseif c == '{' or c == '[' then
      depth = depth + 1
    else
      depth = depth - 1
      if depth == 0 then return at end
    end
    at = at + 1
  end
end

local present, some = {}, false
local at = find(text, '%S', find(text, '{', 1, true) + 1)
while sub(text, at, at) == '"' do
  local last = string_end(at)
  local name = sub(text, at + 1, last - 1)
  if find(name, '\\', 1, true) then name = cjson.decode('["' .. name .. '"]')[1] end
  local first = find(text, '[^%s:]', last + 1)
  last = value_end(first)
  present[name] = {first, last}
  some = true
  at = find(text, '[^%s,]', last + 1)
end

local n = 7
for _ = 1, tonumber(ARGV[3]) do
  local value = present[ARGV[n]]
  if value and sub(text, value[1], value[2]) ~= 'null' then return false end
  n = n + 1
end

local new, order = {}, {}
local function put(name, quoted, value)
  if not new[name] then order[#order + 1] = {name, quoted} end
  new[name] = value
end
for _ = 1, tonumber(ARGV[4]) do
  put(ARGV[n], ARGV[n + 1], ARGV[n + 2])
  n = n + 3
end
for _ = 1, tonumber(ARGV[5]) do
  local name, item = ARGV[n], ARGV[n + 2]
  local list = new[name] or (present[name] and sub(text, present[name][1], present[name][2])) or ''
  if sub(list, 1, 1) ~= '[' or find(list, '^%[%s*%]$') then
    list = '[' .. item .. ']'
  else
    list = sub(list, 1, -2) .. ',' .. item .. ']'
  end
  put(name, ARGV[n + 1], list)
  n = n + 3
end

for _ = 1, tonumber(ARGV[6]) do
  local name, by = ARGV[n], tonumber(ARGV[n + 2])
  local value = new[name] or (present[name] and sub(text, present[name][1], present[name][2])) or 'null'
  if value == 'null' then value = '0' end
  local before = find(value, '^-?%d+$') and tonumber(value)
  if not before or math.abs(before) >= 2^52 or math.abs(by) >= 2^52 then return 0 end
  put(name, ARGV[n + 1], string.format('%.0f', before + by))
  n = n + 3
end

if #order > 0 then
  local edits, added = {}, {}
  for _, each in ipairs(order) do
    local place, value = present[each[1]], new[each[1]]
    if place then
      edits[#edits + 1] = {place[1], place[2], value}
    else
      added[#added + 1] = each[2] .. ':' .. value
    end
  end
  table.sort(edits, function(x, y) return x[1] < y[1] end)
  local parts, from = {}, 1
  for _, edit in ipairs(edits) do
    parts[#parts + 1] = sub(text, from, edit[1] - 1)
    parts[#parts + 1] = edit[3]
    from = edit[2] + 1
  end
  parts[#parts + 1] = sub(text, from, at - 1)
  if #added > 0 then parts[#parts + 1] = (some and ',' or '') .. table.concat(added, ',') end
  parts[#parts + 1] = '}'
  text = table.concat(parts)
  if ARGV[1] == '' then
    redis.call('SET', KEYS[1], text, 'KEEPTTL')
  else
    redis.call('SET', KEYS[1], text, 'PX', ARGV[1])
  end
elseif ARGV[1] ~= '' then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return ARGV[2] == '1' and text or 1
"""

LOOKUP: Final = r"""
-- The documents that index entries lead to. What a set has of documents that are gone is taken out of it.
local found = {}
for _, key in ipairs(KEYS) do
  local unique = ARGV[2] == '1'
  local ids = unique and {redis.call('GET', key) or nil} or redis.call('SMEMBERS', key)
  for _, id in ipairs(ids) do
    local text = redis.call('GET', ARGV[1] .. id)
    if text then
      found[#found + 1] = text
    elseif not unique then
      redis.call('SREM', key, id)
    end
  end
end
return found
"""

_DIGESTS: Final = {
    script: hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest() for script in (WRITE, SPLICE, LOOKUP)
}


async def run(client: Any, script: str, keys: Sequence[str], arguments: Sequence[Any], *, read: bool = False) -> Any:
    """Run a script. Where the server has not got it (a restart), nothing was done, and it is sent whole."""
    rest = (len(keys), *keys, *arguments)
    try:
        return await client.execute_command("EVALSHA", _DIGESTS[script], *rest, read=read)
    except NoScriptError:
        return await client.execute_command("EVAL", script, *rest, read=read)
