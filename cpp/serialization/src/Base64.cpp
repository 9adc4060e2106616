#include "Base64.h"
#include "openmm/OpenMMException.h"
#include <algorithm>
#include <cstdint>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;

static const string ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

string TimewarpPlugin::encodeBase64(const string& bytes) {
    string text;
    text.reserve((bytes.size() + 2) / 3 * 4);
    for (size_t i = 0; i < bytes.size(); i += 3) {
        size_t count = min<size_t>(3, bytes.size() - i);
        uint32_t word = 0;
        for (size_t j = 0; j < 3; j++)
            word = word << 8 | (j < count ? static_cast<unsigned char>(bytes[i + j]) : 0);
        for (size_t j = 0; j < 4; j++)
            text += j <= count ? ALPHABET[word >> (18 - 6 * j) & 63] : '=';
    }
    return text;
}

string TimewarpPlugin::decodeBase64(const string& text) {
    size_t padding = 0;
    while (padding < 2 && padding < text.size() && text[text.size() - 1 - padding] == '=')
        padding++;
    if (text.size() % 4 != 0)
        throw OpenMMException("the text is truncated");
    string bytes;
    bytes.reserve(text.size() / 4 * 3);
    for (size_t i = 0; i < text.size(); i += 4) {
        uint32_t word = 0;
        for (size_t j = i; j < i + 4; j++) {
            size_t digit = (j < text.size() - padding ? ALPHABET.find(text[j]) : 0);
            if (digit == string::npos)
                throw OpenMMException("the text holds a character that does not belong there");
            word = word << 6 | static_cast<uint32_t>(digit);
        }
        for (int shift = 16; shift >= 0; shift -= 8)
            bytes += static_cast<char>(word >> shift & 255);
    }
    bytes.resize(bytes.size() - padding);
    return bytes;
}
