#ifndef TIMEWARP_BASE64_H_
#define TIMEWARP_BASE64_H_

#include "internal/windowsExportTimewarp.h"
#include <string>

namespace TimewarpPlugin {

/**
 * Write bytes as text (RFC 4648, with padding).
 */
EXPORT_TIMEWARP std::string encodeBase64(const std::string& bytes);

/**
 * Get the bytes back.  Throws an OpenMMException if the text is not what encodeBase64() writes.
 */
EXPORT_TIMEWARP std::string decodeBase64(const std::string& text);

} // namespace TimewarpPlugin

#endif /*TIMEWARP_BASE64_H_*/
