/* SPDX-License-Identifier: Apache-2.0 */
#include "rules.h"

#include <string.h>

static const char *const default_rules = "*:3306,/run/mysqld/mysqld.sock,/var/lib/mysql/mysql.sock,/tmp/mysql.sock";

static bool refuse(struct rules_error *err, const char *why, struct text where)
{
	*err = (struct rules_error){why, where};
	return false;
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool is_name(struct text t)
{
	bool letter = false;

	for (size_t i = 0; i < t.n; i++) {
		char c = lower(t.p[i]);

		letter |= (c >= 'a' && c <= 'z') || c == '-' || c == '_';
		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.'))
			return false;
	}
	return letter && t.n <= NAME_MAX_BYTES; /* digits and dots alone are a mistyped address */
}

static void set_text(struct rule *rule, struct text t)
{
	rule->text_n = (uint8_t)t.n;
	memcpy(rule->text, t.p, t.n);
	rule->text[t.n] = '\0';
}

/* "/run" is where "/var/run" points to, everywhere; programs and rules may disagree about its name. */
static struct text without_var(struct text path)
{
	static const char var_run[] = "/var/run/";

	if (path.n >= sizeof(var_run) - 1 && memcmp(path.p, var_run, sizeof(var_run) - 1) == 0)
		return (struct text){path.p + 4, path.n - 4};
	return path;
}

static bool parse_net(struct text host, struct rule *rule, bool *is_net)
{
	struct text address = text_cut(&host, '/');
	bool is_v4, has_bits = address.p + address.n != host.p;
	unsigned bits, all;

	*is_net = has_bits;
	if (!address_parse(address, rule->ip, &is_v4))
		return !has_bits;
	*is_net = true;
	all = is_v4 ? 32 : 128;
	bits = all;
	if (has_bits && !text_number(host, all, &bits))
		return false;
	rule->kind = RULE_NET;
	rule->bits = (uint8_t)(bits + 128 - all);
	return true;
}

static bool parse_rule(struct text t, struct rule *rule, struct rules_error *err)
{
	struct text host;
	bool is_net;

	if (t.n == 0)
		return refuse(err, "empty rule", t);
	if (t.p[0] == '/') {
		if (t.n >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
			return refuse(err, "path too long for a unix socket", t);
		rule->kind = RULE_PATH;
		set_text(rule, without_var(t));
		return true;
	}
	if (!host_port_split(t, &host, &rule->port))
		return refuse(err, "expected host:port with a port from 1 to 65535, or /path/to.sock", t);
	if (text_eq(host, "*")) {
		rule->kind = RULE_NET; /* 0 bits: every address */
		return true;
	}
	if (!parse_net(host, rule, &is_net))
		return refuse(err, "bad network", t);
	if (is_net)
		return true;
	if (!is_name(host))
		return refuse(err, "neither an address, a network, nor a host name", t);
	rule->kind = RULE_NAME;
	set_text(rule, host);
	for (size_t i = 0; i < host.n; i++)
		rule->text[i] = lower(rule->text[i]);
	return true;
}

static void learn_localhost(struct rules *r)
{
	struct endpoint e;

	if (endpoint_parse(text_of("127.0.0.1"), &e))
		rules_learn(r, "localhost", &e.u.sa, e.len);
	if (endpoint_parse(text_of("::1"), &e))
		rules_learn(r, "localhost", &e.u.sa, e.len);
}

bool rules_add(struct rules *r, struct text list, struct rules_error *err)
{
	do {
		struct text t = text_trim(text_cut(&list, ','));
		struct rule rule = {0};

		if (!parse_rule(t, &rule, err))
			return false;
		if (r->n == RULES_MAX)
			return refuse(err, "too many rules", t);
		r->v[r->n++] = rule;
		r->has_names |= rule.kind == RULE_NAME;
		if (rule.kind == RULE_NAME && strcmp(rule.text, "localhost") == 0)
			learn_localhost(r);
	} while (list.n > 0);
	return true;
}

void rules_add_defaults(struct rules *r)
{
	struct rules_error none;

	rules_add(r, text_of(default_rules), &none);
}

bool switch_parse(struct text t, bool *out)
{
	static const char *const words[] = {"", "0", "no", "off", "false", "1", "yes", "on", "true"};

	for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (text_eq(t, words[i])) {
			*out = i > 4;
			return true;
		}
	}
	return false;
}

static const char *env_get(char *const *env, const char *name)
{
	size_t n = strlen(name);

	for (; env != NULL && *env != NULL; env++)
		if (strncmp(*env, name, n) == 0 && (*env)[n] == '=')
			return *env + n + 1;
	return NULL;
}

static bool env_switch(char *const *env, const char *name, bool *out, struct rules_error *err)
{
	const char *value = env_get(env, name);

	if (value == NULL || switch_parse(text_of(value), out))
		return true;
	return refuse(err, "expected 0 or 1", text_of(value));
}

static bool read_env(struct rules *r, char *const *env, const char *to, struct rules_error *err)
{
	const char *match = env_get(env, "SIDETRACK_MATCH");

	if (!endpoint_parse(text_of(to), &r->to))
		return refuse(err, "SIDETRACK_TO: expected address:port, [v6]:port or /path/to.sock", text_of(to));
	if (!env_switch(env, "SIDETRACK_STRICT", &r->strict, err) ||
	    !env_switch(env, "SIDETRACK_SEND_PROXY", &r->send_proxy, err) ||
	    !env_switch(env, "SIDETRACK_PEERNAME", &r->peername, err) ||
	    !env_switch(env, "SIDETRACK_DEBUG", &r->debug, err))
		return false;
	if (match != NULL)
		return rules_add(r, text_of(match), err);
	rules_add_defaults(r);
	return true;
}

bool rules_from_env(struct rules *r, char *const *env, struct rules_error *err)
{
	const char *to = env_get(env, "SIDETRACK_TO");

	r->on = false;
	r->peername = true;
	if (to == NULL)
		return true;
	r->on = read_env(r, env, to, err);
	return r->on;
}

static bool net_covers(const struct rule *rule, const uint8_t ip[16])
{
	unsigned whole = rule->bits / 8, rest = rule->bits % 8;

	return memcmp(rule->ip, ip, whole) == 0 &&
	       (rest == 0 || ((rule->ip[whole] ^ ip[whole]) >> (8 - rest)) == 0);
}

static unsigned learned_count(struct rules *r)
{
	unsigned n = atomic_load_explicit(&r->learned_n, memory_order_acquire);

	return n < LEARNED_MAX ? n : LEARNED_MAX;
}

/* The tag is read before and after: an entry that is replaced meanwhile does not count. */
static bool name_covers(struct rules *r, unsigned rule, const uint64_t ip[2])
{
	unsigned n = learned_count(r);

	for (unsigned i = 0; i < n; i++) {
		struct learned *l = &r->learned[i];

		if (atomic_load_explicit(&l->rule_plus_1, memory_order_acquire) == rule + 1 &&
		    atomic_load_explicit(&l->ip[0], memory_order_acquire) == ip[0] &&
		    atomic_load_explicit(&l->ip[1], memory_order_acquire) == ip[1] &&
		    atomic_load_explicit(&l->rule_plus_1, memory_order_relaxed) == rule + 1)
			return true;
	}
	return false;
}

static bool match_ip(struct rules *r, const uint8_t ip[16], uint16_t port)
{
	uint64_t halves[2];

	memcpy(halves, ip, 16);
	for (unsigned i = 0; i < r->n; i++) {
		const struct rule *rule = &r->v[i];

		if (rule->port != port)
			continue;
		if (rule->kind == RULE_NET ? net_covers(rule, ip) : name_covers(r, i, halves))
			return true;
	}
	return false;
}

static bool match_path(const struct rules *r, const struct sockaddr_un *un, socklen_t len)
{
	const socklen_t head = offsetof(struct sockaddr_un, sun_path);

	if (len <= head || len > sizeof(*un))
		return false;
	struct text path = without_var((struct text){un->sun_path, strnlen(un->sun_path, len - head)});
	for (unsigned i = 0; i < r->n; i++)
		if (r->v[i].kind == RULE_PATH && text_eq(path, r->v[i].text))
			return true;
	return false;
}

/* A connection to the proxy is what this is all for; redirecting it would send a PROXY header where none is due. */
static bool is_proxy_itself(const struct rules *r, const struct sockaddr *sa, socklen_t len)
{
	struct endpoint e;

	return endpoint_copy(sa, len, &e) && endpoint_same(&e, &r->to);
}

bool rules_match(struct rules *r, const struct sockaddr *sa, socklen_t len)
{
	uint8_t ip[16];
	uint16_t port;
	bool hit;

	if (sa == NULL || len < sizeof(sa_family_t))
		return false;
	if (sa->sa_family == AF_UNIX)
		hit = match_path(r, (const void *)sa, len);
	else
		hit = endpoint_ip(sa, len, ip, &port) && match_ip(r, ip, port);
	return hit && !is_proxy_itself(r, sa, len);
}

static bool same_name(const struct rule *rule, const char *name)
{
	size_t n = strlen(name);

	if (n > 0 && name[n - 1] == '.')
		n--;
	if (rule->kind != RULE_NAME || n != rule->text_n)
		return false;
	for (size_t i = 0; i < n; i++)
		if (lower(name[i]) != rule->text[i])
			return false;
	return true;
}

bool rules_name_known(const struct rules *r, const char *name)
{
	for (unsigned i = 0; r->has_names && i < r->n; i++)
		if (same_name(&r->v[i], name))
			return true;
	return false;
}

static void learn(struct rules *r, unsigned rule, const uint64_t ip[2])
{
	unsigned at = atomic_fetch_add_explicit(&r->learned_n, 1, memory_order_acq_rel) % LEARNED_MAX;
	struct learned *l = &r->learned[at];

	atomic_store_explicit(&l->rule_plus_1, 0, memory_order_release);
	atomic_store_explicit(&l->ip[0], ip[0], memory_order_release);
	atomic_store_explicit(&l->ip[1], ip[1], memory_order_release);
	atomic_store_explicit(&l->rule_plus_1, rule + 1, memory_order_release);
}

void rules_learn(struct rules *r, const char *name, const struct sockaddr *sa, socklen_t len)
{
	uint8_t ip[16];
	uint64_t halves[2];
	uint16_t port;

	if (!endpoint_ip(sa, len, ip, &port))
		return;
	memcpy(halves, ip, 16);
	for (unsigned i = 0; i < r->n; i++)
		if (same_name(&r->v[i], name) && !name_covers(r, i, halves))
			learn(r, i, halves);
}
