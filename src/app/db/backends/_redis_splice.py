"""Scripts that replace top-level values in the text of a document without decoding it."""

from typing import Final

_TEXT: Final = r"""
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

-- Where the values of `text` are by their names: first, last, the name as JSON; and the place of the last brace.
local function places()
  local present, some = {}, false
  local at = find(text, '%S', find(text, '{', 1, true) + 1)
  while sub(text, at, at) == '"' do
    local last = string_end(at)
    local name, quoted = sub(text, at + 1, last - 1), sub(text, at, last)
    if find(name, '\\', 1, true) then name = cjson.decode('[' .. quoted .. ']')[1] end
    local first = find(text, '[^%s:]', last + 1)
    last = value_end(first)
    present[name] = {first, last, quoted}
    some = true
    at = find(text, '[^%s,]', last + 1)
  end
  return present, some, at
end

local function value_of(present, name)
  local place = present[name]
  return place and sub(text, place[1], place[2])
end

-- `text` with other values; `order` has each name, with the name as JSON.
local function spliced(present, some, at, order, new)
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
  return table.concat(parts)
end
"""

SPLICE: Final = r"""
-- Replace top-level values in the text of a document, and add to the ends of lists.
-- ARGV: ms to live or '', whether to answer the text, and how many guards, changes, appends and increments follow:
-- names that must be null or missing; name, name as JSON and value as JSON; name, name as JSON and item as JSON; name,
-- name as JSON and a whole number.
-- Answers nil when there is no document or a guard does not hold, and 0, with nothing changed, for a sum that Lua's
-- numbers cannot hold exactly.
local text = redis.call('GET', KEYS[1])
if not text then return false end
@text
local present, some, at = places()
local n = 7
for _ = 1, tonumber(ARGV[3]) do
  if (value_of(present, ARGV[n]) or 'null') ~= 'null' then return false end
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
  local list = new[name] or value_of(present, name) or ''
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
  local value = new[name] or value_of(present, name) or 'null'
  if value == 'null' then value = '0' end
  local before = find(value, '^-?%d+$') and tonumber(value)
  if not before or math.abs(before) >= 2^52 or math.abs(by) >= 2^52 then return 0 end
  put(name, ARGV[n + 1], string.format('%.0f', before + by))
  n = n + 3
end

if #order > 0 then
  text = spliced(present, some, at, order, new)
  if ARGV[1] == '' then
    redis.call('SET', KEYS[1], text, 'KEEPTTL')
  else
    redis.call('SET', KEYS[1], text, 'PX', ARGV[1])
  end
elseif ARGV[1] ~= '' then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return ARGV[2] == '1' and text or 1
""".replace("@text", _TEXT)

REPLACE: Final = r"""
-- Store each document, or put it in the place of the one that is there, all or none.
-- ARGV: the time to live (ms; '' for what is left), whether to answer texts, whether values that the new text does not
-- name are dropped, and how many guards (names that must be null or missing) and names of values to keep follow; then
-- these, and the texts.
-- Answers the number of the first document where a guard does not hold, with nothing changed; else 0, or for each
-- document the text that is stored now, '' for the given one.
local guards, kept, n = {}, {}, 6
for g = 1, tonumber(ARGV[4]) do
  guards[g] = ARGV[n]
  n = n + 1
end
for g = 1, tonumber(ARGV[5]) do
  kept[g] = ARGV[n]
  n = n + 1
end
local text
@text
local drops, texts, found = ARGV[3] == '1', {}, {}
for i, key in ipairs(KEYS) do
  local given = ARGV[n + i - 1]
  text = redis.call('GET', key)
  texts[i], found[i] = given, text
  if text and not (drops and #guards == 0 and #kept == 0) then
    local old, before = text, places()
    for _, name in ipairs(guards) do
      if (value_of(before, name) or 'null') ~= 'null' then return i end
    end
    text = given
    local present, some, at = places()
    local order, new = {}, {}
    local function keep(name, place)
      order[#order + 1] = {name, place[3]}
      new[name] = sub(old, place[1], place[2])
    end
    for _, name in ipairs(kept) do
      if before[name] then keep(name, before[name]) end
    end
    if not drops then
      for name, place in pairs(before) do
        if not present[name] and not new[name] then keep(name, place) end
      end
    end
    if #order > 0 then texts[i] = spliced(present, some, at, order, new) end
  end
end
local answers = {}
for i, key in ipairs(KEYS) do
  if ARGV[1] ~= '' then
    redis.call('SET', key, texts[i], 'PX', ARGV[1])
  elseif found[i] then
    redis.call('SET', key, texts[i], 'KEEPTTL')
  else
    redis.call('SET', key, texts[i])
  end
  answers[i] = texts[i] == ARGV[n + i - 1] and '' or texts[i]
end
return ARGV[2] == '1' and answers or 0
""".replace("@text", _TEXT)
