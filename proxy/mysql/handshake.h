/* SPDX-License-Identifier: Apache-2.0
 *
 * The connection phase: greeting, handshake response, COM_CHANGE_USER, authentication switch
 * (https://mariadb.com/kb/en/connection/). Builders append a whole packet; parsers take a payload and return slices
 * into it. Pure.
 */
#ifndef ST_MYSQL_HANDSHAKE_H
#define ST_MYSQL_HANDSHAKE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "mysql/auth.h"
#include "mysql/protocol.h"

#define NATIVE_PLUGIN "mysql_native_password"

struct greeting {
	struct slice version; /* without MariaDB's "5.5.5-" prefix when parsed; as is when built */
	uint32_t thread_id;
	uint8_t salt[AUTH_SALT];
	uint32_t caps, xcaps;
	uint8_t collation;
	uint16_t status;
	struct slice plugin;
};
void greeting_build(struct buf *b, unsigned seq, const struct greeting *g);
int greeting_parse(struct slice payload, struct greeting *out); /* 0; -1 when malformed or not version 10 */

struct login { /* a handshake response, or the body of COM_CHANGE_USER */
	uint32_t caps, xcaps, max_packet;
	uint16_t collation;
	struct slice user, answer, db, plugin, attributes;
	bool ssl_request; /* the short form that asks for TLS; nothing else is set */
};
void login_build(struct buf *b, unsigned seq, const struct login *l);
int login_parse(struct slice payload, struct login *out);
/* Neither TLS nor compression is offered; a client that asks for one all the same would go on in packets of a form
 * that nobody reads, and wait for ever. Words for error 1043, or NULL. (All else that was not offered changes nothing
 * of what a client sends but what it asks for itself, and is ignored, as by a server.) */
const char *login_unreadable(const struct login *l);
/* caps: what the client negotiated at its login (COM_CHANGE_USER says none itself). payload with the command byte. */
int change_user_parse(struct slice payload, uint32_t caps, struct login *out);

void auth_switch_build(struct buf *b, unsigned seq, const char *plugin, const uint8_t salt[AUTH_SALT]);
/* 0xfe with a plugin name and its data; the old form, 0xfe alone, gives an empty plugin. */
int auth_switch_parse(struct slice payload, struct slice *plugin, struct slice *data);

#endif
