#include "Schedule.h"
#include "IterationNoise.h"
#include <algorithm>

using namespace TimewarpPlugin;
using namespace std;

void Schedule::add(double weight) {
    weights.push_back(weight);
    sums.push_back((sums.empty() ? 0 : sums.back()) + weight);
}

int Schedule::pick(const RandomKey& key, int64_t trial) const {
    if (sums.size() == 1)
        return 0;

    // Deviates are in (0, 1], so that a move of weight 0 is never picked.

    double deviate = IterationNoise(key, trial).uniform() * sums.back();
    return lower_bound(sums.begin(), sums.end(), deviate) - sums.begin();
}
