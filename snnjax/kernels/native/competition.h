// The winners of a layer, found step by step from potentials of integers.

#pragma once

#include "potentials.h"

namespace {

// The k earliest, strongest neurons of distinct features: of each position the strongest one takes part.
class Competition {
 public:
  struct Winner {
    Neuron neuron;
    int32_t step;
  };

  Competition(const IntegerLayer& layer, const Quantised& quantised, float threshold, int64_t k, int64_t radius)
      : layer_(layer), potentials_(layer, quantised), threshold_(threshold), k_(k), radius_(radius),
        fired_(layer.positions()), used_(layer.features) {}

  // The winners; with `whole` all inputs arrive, otherwise only inputs that matter to the winners.
  const std::vector<Winner>& find(const Inputs& inputs, bool whole) {
    potentials_.begin(inputs);
    std::fill(fired_.begin(), fired_.end(), 0);
    std::fill(used_.begin(), used_.end(), 0);
    won_.clear();
    for (int32_t step = 0; step < layer_.time_steps && !complete(); ++step) {
      potentials_.arrive(step);
      for (int64_t p = 0; p < layer_.positions(); ++p)
        if (!fired_[p] && potentials_.ceiling(p) > threshold_) spike(p, step);
      choose(step);
    }
    if (whole) potentials_.arrive(layer_.time_steps - 1);
    return won_;
  }

  const std::vector<Winner>& winners() const { return won_; }
  Potentials& potentials() { return potentials_; }

 private:
  static constexpr int64_t kUnknown = -1;  // the feature of a neuron whose potential is an upper bound

  bool complete() const { return int64_t(won_.size()) == k_; }

  // The strongest neuron of a position fires if it is above the threshold; which one is found out when that matters.
  void spike(int64_t position, int32_t step) {
    potentials_.look(position);
    const float most = potentials_.ceiling(position), least = most - 2 * potentials_.margin(position);
    if (!(most > threshold_)) return;
    Neuron neuron = {most, kUnknown, position};
    if (!(least > threshold_)) {
      neuron = strongest(position, step);
      if (!(neuron.potential > threshold_)) return;
    }
    fired_[position] = 1;
    spikes_.push_back(neuron);
  }

  Neuron strongest(int64_t position, int32_t step) const {
    Neuron best = {threshold_, layer_.features, position};
    potentials_.strongest(position, 0, layer_.features, step, best);
    return best;
  }

  // The strongest first, until there are k winners.
  void choose(int32_t step) {
    for (; !spikes_.empty() && !complete();) {
      auto next = std::min_element(spikes_.begin(), spikes_.end(),
                                   [](const Neuron& a, const Neuron& b) { return a.precedes(b); });
      if (!inhibited(next->position)) {
        if (next->feature == kUnknown) {
          *next = strongest(next->position, step);
          if (next->potential > threshold_) continue;
        } else if (!used_[next->feature]) {
          used_[next->feature] = 1;
          won_.push_back({*next, step});
        }
      }
      *next = spikes_.back();
      spikes_.pop_back();
    }
    spikes_.clear();
  }

  bool inhibited(int64_t position) const {
    const int64_t y = position / layer_.out_width, x = position % layer_.out_width;
    return radius_ > 0 && std::any_of(won_.begin(), won_.end(), [&](const Winner& other) {
             const int64_t above = other.neuron.position / layer_.out_width;
             const int64_t left = other.neuron.position % layer_.out_width;
             return std::abs(above - y) <= radius_ && std::abs(left - x) <= radius_;
           });
  }

  const IntegerLayer& layer_;
  Potentials potentials_;
  float threshold_;
  int64_t k_, radius_;
  std::vector<uint8_t> fired_, used_;  // [positions], whether any neuron has fired; [F]
  std::vector<Neuron> spikes_;  // of a step
  std::vector<Winner> won_;
};

// Moves the weights of all winners; their features go to `out`, [k].
void learn(const IntegerLayer& layer, Quantised& quantised, Competition& competition, const Rule& rule, int32_t* out) {
  for (const auto& [neuron, step] : competition.winners()) {
    update(layer, quantised, competition.potentials().inputs(), neuron, step, rule);
    *out++ = neuron.feature;
  }
  if (!competition.winners().empty()) quantised.clip(layer, rule.lower, rule.upper);
}

}  // namespace
