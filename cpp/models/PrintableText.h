#ifndef TIMEWARP_PRINTABLE_TEXT_H_
#define TIMEWARP_PRINTABLE_TEXT_H_

#include <algorithm>
#include <string>

namespace TimewarpPlugin {

/**
 * Prepare text that comes from a file for a message: on one line, in ASCII, and of a reasonable length.
 * Python could not decode other bytes, and a terminal might obey them.
 */
inline std::string printable(std::string text) {
    const size_t largest = 400;
    if (text.size() > largest)
        text = text.substr(0, largest) + "...";
    std::replace_if(text.begin(), text.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
    return text;
}

} // namespace TimewarpPlugin

#endif /*TIMEWARP_PRINTABLE_TEXT_H_*/
