// Who fires by the last step, pooled.

#pragma once

#include "potentials.h"

namespace {

// The pooled outputs of a layer where neurons above a threshold fire.
class Outputs {
 public:
  // `when`: the latency of those that fire.
  Outputs(const Layer& layer, const Quantised& quantised, float threshold, const Pool& pool, int32_t when)
      : layer_(layer), pool_(pool), threshold_(threshold), when_(when), lower_(quantised.stride),
        upper_(quantised.stride) {}

  int64_t size() const { return layer_.features * pool_.height * pool_.width; }

  // Writes latencies [F, pooled height, width], T where silent.
  void write(Potentials& potentials, uint8_t* out) {
    const int64_t cells = pool_.height * pool_.width;
    std::fill_n(out, size(), layer_.time_steps);
    for (int64_t cell = 0; cell < cells; ++cell) {
      bound(potentials, cell);
      for (int64_t first = 0; first < layer_.features; first += kLanes) {
        auto lanes = [&](const std::vector<float>& values) { return *reinterpret_cast<const Lanes*>(&values[first]); };
        const Steps sure = lanes(lower_) > threshold_, possible = lanes(upper_) > threshold_;
        auto fire = [&](int64_t lane) { out[(first + lane) * cells + cell] = when_; };
        each_lane(sure, fire);
        each_lane(possible & ~sure, [&](int64_t lane) {
          if (exceeds(potentials, cell, first + lane)) fire(lane);
        });
      }
    }
  }

 private:
  // How large the largest potential in a cell is, at least and at most.
  void bound(Potentials& potentials, int64_t cell) {
    std::fill(lower_.begin(), lower_.end(), kSilent);
    std::fill(upper_.begin(), upper_.end(), kSilent);
    pool_.in(cell, layer_.out_height, layer_.out_width, [&](int64_t p) {
      if (potentials.ceiling(p) > threshold_) potentials.look(p);
      if (!(potentials.ceiling(p) > threshold_)) return;
      const float *values = potentials.values(p), margin = potentials.margin(p);
      for (int64_t f = 0; f < layer_.features; ++f) {
        lower_[f] = std::max(lower_[f], values[f] - margin);
        upper_[f] = std::max(upper_[f], values[f] + margin);
      }
    });
  }

  // Whether any neuron of a cell exceeds the threshold.
  bool exceeds(const Potentials& potentials, int64_t cell, int64_t feature) const {
    bool found = false;
    pool_.in(cell, layer_.out_height, layer_.out_width, [&](int64_t p) {
      if (!found && potentials.ceiling(p) > threshold_ && potentials.values(p)[feature] + potentials.margin(p) > threshold_)
        found = potentials.exact(feature, p, layer_.time_steps - 1) > threshold_;
    });
    return found;
  }

  const Layer& layer_;
  const Pool pool_;
  float threshold_;
  int32_t when_;
  std::vector<float> lower_, upper_;  // [stride]
};

}  // namespace
