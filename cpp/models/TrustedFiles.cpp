#include "TrustedFiles.h"
#include "openmm/OpenMMException.h"
#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <mutex>
#include <set>
#include <sstream>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;

static mutex filesMutex;
static set<string> files;

static string checkedDigest(string digest, const string& origin) {
    transform(digest.begin(), digest.end(), digest.begin(), [](unsigned char c) { return tolower(c); });
    if (digest.size() != 64 || digest.find_first_not_of("0123456789abcdef") != string::npos)
        throw OpenMMException(
                "Timewarp: " + origin + " names '" + digest +
                "', which is not a SHA-256 digest of 64 hexadecimal digits (sha256sum FILE prints "
                "it)");
    return digest;
}

void TimewarpPlugin::trustFile(const string& sha256) {
    lock_guard<mutex> lock(filesMutex);
    files.insert(checkedDigest(sha256, "trust()"));
}

static string listedFiles() {
    const char* listed = getenv("TIMEWARP_TRUSTED_FILES");
    return listed == NULL ? "" : listed;
}

bool TimewarpPlugin::anyFileIsTrusted() {
    lock_guard<mutex> lock(filesMutex);
    return !files.empty() || !listedFiles().empty();
}

bool TimewarpPlugin::isTrustedFile(const string& sha256) {
    lock_guard<mutex> lock(filesMutex);
    if (files.count(sha256))
        return true;
    istringstream digests(listedFiles());
    for (string digest; getline(digests, digest, ',');)
        if (checkedDigest(digest, "TIMEWARP_TRUSTED_FILES") == sha256)
            return true;
    return false;
}
