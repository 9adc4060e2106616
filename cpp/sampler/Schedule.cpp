#include "Schedule.h"
#include "IterationNoise.h"
#include <numeric>

using namespace TimewarpPlugin;
using namespace std;

void Schedule::add(double weight) {
    weights.push_back(weight);
}

int Schedule::pick(const RandomKey& key, int64_t trial) const {
    if (weights.size() == 1)
        return 0;

    // Deviates are in (0, 1], so that a move of weight 0 is never picked.

    const double deviate =
            IterationNoise(key, trial).uniform() * accumulate(weights.begin(), weights.end(), 0.0);
    int move = 0;
    for (double sum = weights[0]; sum < deviate; sum += weights[move])
        move++;
    return move;
}
