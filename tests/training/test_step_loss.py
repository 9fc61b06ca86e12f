"""The loss of a training step, its parts and what mixing does to them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.training.tiny_steps import (
  ALL_LOSSES,
  BATCH,
  CLASSES,
  NONE,
  PREP,
  SLOW,
  batch_and_text,
  init_params,
  loss_metrics,
  model,
)
from zsar_jax.models import pixel_ops
from zsar_jax.training import losses, step_loss


def test_a_loss_of_weight_zero_is_left_out():
  weights = step_loss.LossWeights(visual=1.0, contrast=0.0, match=0.0)
  metrics = loss_metrics(weights)(*batch_and_text(), jax.random.key(0))
  assert 'loss_visual' in metrics
  assert 'loss_match' not in metrics
  assert metrics['loss'] == pytest.approx(metrics['loss_visual'])


def test_loss_weights_that_train_nothing_are_refused():
  with pytest.raises(ValueError, match='nothing to train'):
    step_loss.LossWeights(visual=0.0, contrast=0.0, match=0.0)
  with pytest.raises(ValueError, match='negative'):
    step_loss.LossWeights(match=-1.0)


def plain_loss(params, the_model, batch, text, key, smoothing):
  """All three losses written out, of clips as they are."""
  dropout_key, negative_key = jax.random.split(key)
  apply = functools.partial(
    the_model.apply,
    {'params': params},
    deterministic=False,
    rngs={'dropout': dropout_key},
  )
  clip = pixel_ops.to_inputs(batch['video'], PREP.mean, PREP.std, PREP.inputs)
  video = apply(clip, method='encode_video')
  names = apply(text['ids'], text['mask'], method='encode_text')
  heads = the_model.apply({'params': params}, method='heads')
  z, t, labels = video['embedding'], names['embedding'], batch['label']
  q = losses.targets(labels, CLASSES, smoothing)
  visual = losses.visual_loss(
    z, heads['class_centres'], heads['visual_scale'], q
  )
  contrast = losses.contrast_loss(z, t, heads['text_scale'], q)
  keys = losses.global_index_keys(negative_key, batch['index'])
  true = losses.targets(labels, CLASSES)
  wrong = losses.hard_negatives(z, t, heads['text_scale'], true, keys)
  pairs = jnp.stack([labels, wrong], axis=1)
  logits = apply(
    video['tokens'], names['tokens'][pairs], text['mask'][pairs], method='match'
  )
  match = losses.match_loss(logits[:, 0], logits[:, 1])
  return visual.mean() + contrast.mean() + match.mean()


@pytest.mark.parametrize('smoothing', [pytest.param(0.0, marks=SLOW), 0.1])
def test_without_augmentation_loss_and_gradient_are_the_plain_ones(smoothing):
  the_model = model(dropout_rate=0.1)
  batch, text = batch_and_text()
  params = init_params()
  key = jax.random.key(7)
  weights = step_loss.LossWeights(label_smoothing=smoothing)
  loss, gradient = jax.jit(
    jax.value_and_grad(
      lambda p: step_loss.compute_loss(
        p, step_loss.Objective(the_model, PREP, weights), batch, text, key
      )[0]
    )
  )(params)
  expected, expected_gradient = jax.jit(
    jax.value_and_grad(
      lambda p: plain_loss(p, the_model, batch, text, key, smoothing)
    )
  )(params)
  assert loss == expected
  jax.tree.map(np.testing.assert_array_equal, gradient, expected_gradient)


def test_mass_of_both_classes_of_a_mix_reaches_every_loss():
  the_model = model()
  batch, text = batch_and_text()
  # One and the same clip under all labels: mixing changes its targets alone.
  batch['video'] = np.repeat(batch['video'][:1], BATCH, axis=0)
  params = init_params()
  key = jax.random.key(5)
  mixup = step_loss.Augmentation(mixing=pixel_ops.Mixing(mixup_alpha=1.0))
  metrics = loss_metrics(ALL_LOSSES, mixup)(batch, text, key)

  mixing_key = jax.random.fold_in(key, 3)
  _, shift, share = pixel_ops.mix(
    batch['video'],
    mixup.mixing,
    mixing_key,
    losses.global_index_keys(mixing_key, batch['index']),
  )
  share, labels = np.asarray(share), batch['label']
  others = np.roll(labels, -int(shift))
  # The loss of this clip as an example of each class.
  each = [
    loss_metrics()({**batch, 'label': np.full(BATCH, c, np.int32)}, text, key)
    for c in range(CLASSES)
  ]
  for name in ('loss_visual', 'loss_contrast'):
    of_class = np.array([m[name] for m in each])
    expected = share * of_class[labels] + (1 - share) * of_class[others]
    assert float(metrics[name]) == pytest.approx(expected.mean(), rel=1e-4)
  named = int(np.argmax([m['train_top1'] for m in each]))
  dominant = np.where(share > 0.5, labels, others)
  assert float(metrics['train_top1']) == pytest.approx(
    (dominant == named).mean()
  )

  # Of the match logits too; which wrong class was drawn, the test redraws.
  apply = functools.partial(the_model.apply, {'params': params})

  @jax.jit
  def outputs(pixels):
    clip = pixel_ops.to_inputs(pixels, PREP.mean, PREP.std, PREP.inputs)
    video = apply(clip, method='encode_video')
    names = apply(text['ids'], text['mask'], method='encode_text')
    tokens, mask = names['tokens'][None], text['mask'][None]
    logits = apply(video['tokens'], tokens, mask, method='match')
    return video, names, logits, apply(method='heads')

  video, names, logits, heads = outputs(batch['video'][:1])
  logit = np.asarray(logits)[0]
  q = share[:, None] * np.eye(CLASSES)[labels]
  q = q + (1 - share)[:, None] * np.eye(CLASSES)[others]
  wrong = losses.hard_negatives(
    np.repeat(video['embedding'], BATCH, axis=0),
    names['embedding'],
    heads['text_scale'],
    q,
    losses.global_index_keys(jax.random.split(key)[1], batch['index']),
  )
  softplus = lambda x: np.logaddexp(0, x)
  expected = 0.5 * (
    (q * softplus(-logit)).sum(axis=1) + softplus(logit[np.asarray(wrong)])
  )
  assert float(metrics['loss_match']) == pytest.approx(
    expected.mean(), rel=1e-3
  )


def test_mixing_that_leaves_no_wrong_class_is_refused():
  the_model = model()
  batch, text = batch_and_text()
  text = {name: value[:2] for name, value in text.items()}
  mixing = step_loss.Augmentation(mixing=pixel_ops.Mixing(0.0, 1.0))
  assert step_loss.least_classes(ALL_LOSSES, NONE) == 2
  assert step_loss.least_classes(ALL_LOSSES, mixing) == 3
  no_match = step_loss.LossWeights(match=0.0)
  assert step_loss.least_classes(no_match, mixing) == 2
  with pytest.raises(ValueError, match='2 seen classes; .* at least 3'):
    step_loss.compute_loss(
      {},
      step_loss.Objective(the_model, PREP, ALL_LOSSES, mixing),
      batch,
      text,
      jax.random.key(0),
    )
