/* SPDX-License-Identifier: Apache-2.0
 *
 * The version of this source tree.
 */
#ifndef ST_BASE_VERSION_H
#define ST_BASE_VERSION_H

#define SIDETRACK_VERSION "0.1.0"
/* What the admin port greets with: clients look for the leading digits of a server they know. */
#define SIDETRACK_SERVER_VERSION "10.11.0-Sidetrack-" SIDETRACK_VERSION

#endif
