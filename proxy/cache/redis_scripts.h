/* SPDX-License-Identifier: Apache-2.0
 *
 * What runs inside Redis, each in one step that nobody sees half of. Keys of one row and of its table:
 *
 *   st:{db.table:key}    hash: d<shape> = epoch, bytes;  l<shape> = epoch, token, until;  x = earliest end of a d
 *   st:{db.table:key}f   the row's fence, a hash: p<writer> = count:until;  g<domain> = seq:server:until;  u = until
 *   st:{db.table}e       string: epoch (16 bytes), tag: run_id of the Redis that it was made in, the table's mark
 *   st:{db.table}F       the table's fence
 *
 * And of all proxies of a service:
 *
 *   st:{service}b        hash: secret = what shapes are made under;  last, since, broke = of beats (SCRIPT_BEAT);
 *                        p<link> = its last beat: tables;  t<terms> = the table's mark;  doubt = until when fences may
 *                        be missing
 *
 * Times are milliseconds by Redis' own clock. Sequences are 20 digits, so that they compare as text.
 * An invalidation writes with UNLINK first: a script that has written may go on when Redis is out of memory.
 */
#ifndef ST_CACHE_REDIS_SCRIPTS_H
#define ST_CACHE_REDIS_SCRIPTS_H

#define LUA_NOW                                                                                                        \
	"local t = redis.call('TIME')\n"                                                                               \
	"local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"

/* One write: before, it adds to the writer's count; after, it takes from it and leaves the GTID. */
#define LUA_RAISE                                                                                                      \
	"local function raise(key, phase, writer, domain, server, seq, ttl)\n"                                         \
	"	local till, mine = now + ttl, 'p' .. writer\n"                                                         \
	"	local n, u = string.match(redis.call('HGET', key, mine) or '', '^(%d+):(%d+)$')\n"                     \
	"	if phase == 'B' then\n"                                                                                \
	"		if not n or tonumber(u) <= now then n = 0 end\n"                                               \
	"		redis.call('HSET', key, mine, (n + 1) .. ':' .. till)\n"                                       \
	"	else\n"                                                                                                \
	"		if n and tonumber(n) > 1 then redis.call('HSET', key, mine, (n - 1) .. ':' .. u)\n"            \
	"		elseif n then redis.call('HDEL', key, mine) end\n"                                             \
	"		if seq == '' then redis.call('HSET', key, 'u', till) else\n"                                   \
	"			local old = redis.call('HGET', key, 'g' .. domain) or ''\n"                            \
	"			local s, v = string.match(old, '^(%d+):(%d+)')\n"                                      \
	"			if s and s > seq then seq, server = s, v end\n"                                        \
	"			redis.call('HSET', key, 'g' .. domain, seq .. ':' .. server .. ':' .. till)\n"         \
	"		end\n"                                                                                         \
	"	end\n"                                                                                                 \
	"	if redis.call('PTTL', key) < ttl then redis.call('PEXPIRE', key, ttl) end\n"                           \
	"end\n"

/* The table's epoch, which is made where there is none, or one of another tag, or `anew`. Where it was lost so may
 * have been fences: what was written just now is unknown, and for `recovery` nobody fills: by then every proxy that had
 * lost Redis, and acknowledged writes meanwhile, is back (BACKOFF_MAX_US, HELLO_US) and has said what it owes. */
#define LUA_OPEN												      \
	"local function open(key, fence, anew, new, tag, margin, recovery)\n"					      \
	"	local e = redis.call('GET', key)\n"								      \
	"	local lost = not e or string.sub(e, 17) ~= tag\n"						      \
	"	if not lost and not anew then return string.sub(e, 1, 16) end\n"				      \
	"	redis.call('UNLINK', key)\n"									      \
	"	redis.call('SET', key, new .. tag)\n"								      \
	"	if lost then raise(fence, 'A', '', '', '', '', tonumber(margin)) end\n"				      \
	"	if lost and tonumber(recovery) > 0 then raise(fence, 'B', '-', '', '', '', tonumber(recovery)) end\n" \
	"	return new\n"											      \
	"end\n"

/* KEYS row, row's fence, epoch, table's fence. ARGV shape, token, lease ms, most fields, and for open(): epoch to make,
 * tag, margin ms, recovery ms. Answers {1, epoch and bytes}, or {2 lease, 3 busy, 4 read; primary only; domain,
 * server, seq}. */
#define SCRIPT_LOOK												      \
	LUA_NOW LUA_RAISE LUA_OPEN										      \
	"local shape, lease = ARGV[1], tonumber(ARGV[3])\n"							      \
	"local e = open(KEYS[3], KEYS[4], false, ARGV[5], ARGV[6], ARGV[7], ARGV[8])\n"				       \
	"local v = redis.call('HGET', KEYS[1], 'd' .. shape)\n"                                                        \
	"if v and string.sub(v, 1, 16) == e then return {1, v} end\n"                                                  \
	"local primary, pending, gd, gv, gs = 0, false, '', '', ''\n"                                                  \
	"for k = 2, 4, 2 do\n"                                                                                         \
	"	local all = redis.call('HGETALL', KEYS[k])\n"                                                          \
	"	for i = 1, #all, 2 do\n"                                                                               \
	"		local kind, d = string.sub(all[i], 1, 1), string.sub(all[i], 2)\n"                             \
	"		if tonumber(string.match(all[i + 1], '%d+$')) > now then\n"                                    \
	"			if kind ~= 'g' then\n"                                                                 \
	"				primary = 1\n"                                                                 \
	"				pending = pending or kind == 'p'\n"                                            \
	"			elseif gs ~= '' and gd ~= d then\n"                                                    \
	"				primary = 1\n"                                                                 \
	"			else\n"                                                                                \
	"				local s, w = string.match(all[i + 1], '^(%d+):(%d+)')\n"                       \
	"				if s > gs then gd, gv, gs = d, w, s end\n"                                     \
	"			end\n"                                                                                 \
	"		end\n"                                                                                         \
	"	end\n"                                                                                                 \
	"end\n"                                                                                                        \
	"local l = redis.call('HGET', KEYS[1], 'l' .. shape)\n"                                                        \
	"if pending then return {4, primary, gd, gv, gs} end\n"                                                        \
	"if l and string.sub(l, 1, 16) == e and tonumber(string.sub(l, 33)) > now then\n"                              \
	"	return {3, primary, gd, gv, gs}\n"                                                                     \
	"end\n"                                                                                                        \
	"if not l and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[4]) then return {4, primary, gd, gv, gs} end\n"     \
	"local ok = redis.pcall('HSET', KEYS[1], 'l' .. shape, e .. ARGV[2] .. (now + lease))\n"                       \
	"if type(ok) == 'table' and ok.err then return {4, primary, gd, gv, gs} end\n"                                 \
	"if redis.call('HEXISTS', KEYS[1], 'x') == 0 then redis.call('PEXPIRE', KEYS[1], lease) end\n"                 \
	"return {2, primary, gd, gv, gs}\n"

/* KEYS row, epoch. ARGV shape, token, tag, ttl ms, bytes, lease ms. 1: stored. The ttl counts from when the lease
 * was given, which was before the server was asked how long the row is good. */
#define SCRIPT_FILL                                                                                                    \
	LUA_NOW                                                                                                        \
	"local l = redis.call('HGET', KEYS[1], 'l' .. ARGV[1])\n"                                                      \
	"local e = redis.call('GET', KEYS[2])\n"                                                                       \
	"if not l or not e or string.sub(e, 17) ~= ARGV[3] then return 0 end\n"                                        \
	"e = string.sub(e, 1, 16)\n"                                                                                   \
	"if string.sub(l, 1, 32) ~= e .. ARGV[2] or tonumber(string.sub(l, 33)) <= now then return 0 end\n"            \
	"local till = tonumber(string.sub(l, 33)) - ARGV[6] + ARGV[4]\n"                                               \
	"if till <= now then return 0 end\n"                                                                           \
	"local ok = redis.pcall('HSET', KEYS[1], 'd' .. ARGV[1], e .. ARGV[5])\n"                                      \
	"if type(ok) == 'table' and ok.err then return 0 end\n"                                                        \
	"redis.call('HDEL', KEYS[1], 'l' .. ARGV[1])\n"                                                                \
	"local x = tonumber(redis.call('HGET', KEYS[1], 'x') or '')\n"                                                 \
	"if x and x < till then till = x else redis.call('HSET', KEYS[1], 'x', till) end\n"                            \
	"redis.call('PEXPIREAT', KEYS[1], till)\n"                                                                     \
	"return 1\n"

/* KEYS row. ARGV shape, token. */
#define SCRIPT_ABANDON                                                                                                 \
	"local l = redis.call('HGET', KEYS[1], 'l' .. ARGV[1])\n"                                                      \
	"if l and string.sub(l, 17, 32) == ARGV[2] then redis.call('HDEL', KEYS[1], 'l' .. ARGV[1]) end\n"             \
	"return 1\n"

/* KEYS row, row's fence. ARGV phase (B or A), writer, domain, server, seq ("": unknown), ttl ms. */
#define SCRIPT_DROP                                                                                                    \
	LUA_NOW LUA_RAISE                                                                                              \
	"redis.call('UNLINK', KEYS[1])\n"                                                                              \
	"raise(KEYS[2], ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6]))\n"                             \
	"return 1\n"

/* KEYS epoch, table's fence. ARGV as SCRIPT_DROP, then for open(): epoch to make, tag, margin ms, recovery ms. */
#define SCRIPT_WHOLE												      \
	LUA_NOW LUA_RAISE LUA_OPEN										      \
	"open(KEYS[1], KEYS[2], true, ARGV[7], ARGV[8], ARGV[9], ARGV[10])\n"					      \
	"raise(KEYS[2], ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6]))\n"			      \
	"return 1\n"

/* A proxy's sign that Redis takes its writes: refused when an invalidation would be, and only then, since both begin
 * alike. It tells which tables the proxy caches, on what terms ("terms,terms,"), and is told which of them everybody
 * does who was heard of in the last 10 s: one who does not may write without an invalidation. A table gets a mark when
 * the last of them has it, another one each time; entries and epochs of another mark are none. All marks go when the
 * clock has been set back, because entries end by it; and when somebody who was there as beats broke off has not come
 * back by the time that look-ups begin again: what he owes is lost with him.
 *
 * KEYS of all proxies, one that is never there. ARGV a secret should there be none, most ms between two beats, ms
 * without a break before anyone is served, link, its tables, a new mark, ms more for which it counts as heard of, ms
 * for which fences may be missing. Answers the secret, ms since the last break, ms for which fences may be missing, and
 * the mark of each table or "". */
#define SCRIPT_BEAT                                                                                                    \
	LUA_NOW                                                                                                        \
	"redis.call('UNLINK', KEYS[2])\n"                                                                              \
	"local most, id, mine, h = tonumber(ARGV[2]), 'p' .. ARGV[4], ARGV[5], {}\n"                                   \
	"local all = redis.call('HGETALL', KEYS[1])\n"                                                                 \
	"for i = 1, #all, 2 do h[all[i]] = all[i + 1] end\n"                                                           \
	"local last, since, broke = tonumber(h.last), tonumber(h.since), tonumber(h.broke)\n"                          \
	"local anew = not last or not since or now < last - 50\n"                                                      \
	"if anew or now < last or now - last > most then since, broke = now, broke or last or 0 end\n"                 \
	"local wait, there = tonumber(ARGV[3]), {}\n"                                                                  \
	"local calm = broke and wait > 0 and now - since >= wait\n"                                                    \
	"h[id] = string.format('%.0f:', now + ARGV[7]) .. mine\n"                                                      \
	"for f, v in pairs(h) do\n"                                                                                    \
	"	if string.sub(f, 1, 1) == 'p' then\n"                                                                  \
	"		local at, tables = string.match(v, '^(%d+):(.*)$')\n"                                          \
	"		at = tonumber(at)\n"                                                                           \
	"		local gone = calm and at < since\n"                                                            \
	"		anew = anew or (gone and at >= broke - 2 * most)\n"                                            \
	"		if gone or at < now - 10000 then redis.call('HDEL', KEYS[1], f)\n"                             \
	"		else there[#there + 1] = tables end\n"                                                         \
	"	end\n"                                                                                                 \
	"end\n"                                                                                                        \
	"local function all_have(t)\n"                                                                                 \
	"	for i = 1, #there do\n"                                                                                \
	"		if not string.find(there[i], t .. ',', 1, true) then return false end\n"                       \
	"	end\n"                                                                                                 \
	"	return true\n"                                                                                         \
	"end\n"                                                                                                        \
	"for f in pairs(h) do\n"                                                                                       \
	"	if string.sub(f, 1, 1) == 't' and (anew or not all_have(string.sub(f, 2))) then\n"                     \
	"		redis.call('HDEL', KEYS[1], f)\n"                                                              \
	"		h[f] = nil\n"                                                                                  \
	"	end\n"                                                                                                 \
	"end\n"                                                                                                        \
	"local secret, doubt = h.secret or ARGV[1], math.max(tonumber(h.doubt) or 0, now + ARGV[8])\n"                 \
	"local out = {secret, now - since, doubt - now}\n"                                                             \
	"for t in string.gmatch(mine, '([^,]+),') do\n"                                                                \
	"	local mark = h['t' .. t] or (all_have(t) and ARGV[6]) or ''\n"                                         \
	"	if mark ~= '' then redis.call('HSET', KEYS[1], 't' .. t, mark) end\n"                                  \
	"	out[#out + 1] = mark\n"                                                                                \
	"end\n"                                                                                                        \
	"redis.call('HSET', KEYS[1], 'secret', secret, 'last', now, 'since', since, 'doubt', doubt, id, h[id])\n"      \
	"if calm then redis.call('HDEL', KEYS[1], 'broke')\n"                                                          \
	"elseif broke then redis.call('HSET', KEYS[1], 'broke', broke) end\n"                                          \
	"return out\n"

#endif
