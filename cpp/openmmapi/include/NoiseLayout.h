#ifndef TIMEWARP_NOISE_LAYOUT_H_
#define TIMEWARP_NOISE_LAYOUT_H_

namespace TimewarpPlugin {

/**
 * Where the random numbers of one Metropolis-Hastings iteration are in what its generator makes: blocks of
 * four words, each of which gives two uniform deviates or two normal ones.  Block 0 is for the decision and
 * the lag time; then come those of the auxiliary velocities, those of the model's noise, and one for the
 * decision of a subchain.  Far beyond are the choice of latent variables, what alternatives have in common,
 * and the velocities that dynamics go on with.
 */
struct NoiseLayout {
    static const int FIRST_NORMAL_BLOCK = 1;
    static const int FIRST_LATENT_BLOCK = 1 << 29;
    static const int FIRST_COMMON_BLOCK = 3 << 28;
    static const int FIRST_REDRAWN_BLOCK = 1 << 30;
    /**
     * Get how many blocks some normal deviates take.
     */
    static int numBlocks(int numDeviates) {
        return (numDeviates + 1) / 2;
    }
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_NOISE_LAYOUT_H_*/
