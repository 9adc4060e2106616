#ifndef TIMEWARP_KNOWN_STATE_H_
#define TIMEWARP_KNOWN_STATE_H_

#include <cstdint>

namespace TimewarpPlugin {

/**
 * Numbers the states that a chain comes to, so that whatever is computed of one can say of which.  A state
 * that the chain returns to has its old number again.
 */
class Revisions {
public:
    std::int64_t get() const {
        return current;
    }
    /** Begin a new state. */
    void change() {
        current = ++last;
    }
    /** Return to an earlier state. */
    void rollBack(std::int64_t earlier) {
        current = earlier;
    }

private:
    std::int64_t current = 0, last = 0;
};

/**
 * A value that was computed of some state.  It is known as long as that is the current one.
 */
template <class Value> struct Known {
    Value value{};
    std::int64_t revision = -1;

    bool isOf(std::int64_t current) const {
        return revision == current;
    }
    void set(const Value& newValue, std::int64_t of) {
        value = newValue;
        revision = of;
    }
    void forget() {
        revision = -1;
    }
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_KNOWN_STATE_H_*/
