"""Learners: GRPO, PPO, AT-GRPO and Stable-Baselines3's PPO, one file each.

A learner collects trajectories, gives their decisions advantages, and updates a policy.
It may import rollouts, policies, losses, advantages and the types, but not configuration, training or reports.

**Add an algorithm.** Write a subclass of ``agents.algorithms.learner.Learner``. Its training step is::

    collect -> log-probs -> credit -> mini-batches -> loss -> optimizer step

Credit
    ``credit(trajectories) -> (samples, metrics)`` is required. It sets the ``advantage`` of each sample and returns the
    samples to train on. Start from ``sample.reward``, which includes the KL penalty. ``trajectory.streams()`` gives the
    samples of each agent in an episode, and ``sample.decision.group_id`` names the group that a decision is compared
    with. ``with_advantages`` gives whole streams their advantage; one number per token works too.
Loss
    ``loss(inputs, config) -> (loss, metrics)`` is optional. The default is the clipped policy loss plus KL and entropy
    terms. ``agents.algorithms.policy_loss.LossInputs`` describes every input. Divide by ``inputs.denominator`` (see
    ``agents.losses.aggregate``), so that the loss does not depend on the size of the micro-batches. ``policy_loss`` and
    ``penalties`` of the same module are the terms to combine.
Other hooks
    ``collect`` plays other episodes, ``validate`` refuses options that do not fit, ``uses_values = True`` provides
    state values, and ``value_parameter_group`` gives them their own learning rate.
Registration
    End the file with ``ALGORITHMS.register("my_name", MyLearner, MyConfig)``, where ``MyConfig`` is ``LearnerConfig``
    or a dataclass derived from it, and run ``python -m agents.train algo=my_module:my_name``. An installed package
    makes the name known without an import: its entry point of the group ``reason_envs.algorithms`` names a function
    that registers it.
"""
