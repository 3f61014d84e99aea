"""Every default of a study, once, with its unit and origin.

Not run by itself; the other files override what differs and open with their
command, the time it takes on 2 CPU cores, and what to expect.

Origins: [paper] Chen et al., ISMRM 2019 #0671; [code] the authors' published
network file; [ours] our own choice, because the paper does not say.
"""

from ml_collections import ConfigDict

from configs import chen2019

PRESETS = ('', 'paper')


def check_preset(preset: str) -> None:
  """`--config=configs/NAME.py:PRESET` takes '' or 'paper'."""
  if preset not in PRESETS:
    raise ValueError(
      f'Unknown preset {preset!r} behind the colon; choose from {PRESETS}.'
    )


def get_config(preset: str = '') -> ConfigDict:
  """The defaults, sized for 2 CPU cores; 'paper' is the paper's scale."""
  check_preset(preset)
  config = ConfigDict()
  config.name = 'study'  # title of the report
  config.seed = 0  # simulation, splits, initial weights, batches

  # Strategies, cohorts, and the rows and claims of a paper: add your own by
  # config.study.strategies.NAME = Strategy(...), see `cmbjax.study`.
  config.study = chen2019.study(preset)

  # Cohort folders (BIDS or LupoLab layout), or data sets that `cmbjax build`
  # has built, by name of the cohort. Empty: simulate one, once.
  config.cohorts = ConfigDict()

  # Whether one subject label means one person in all cohorts. False: labels
  # are per cohort, sub-01 of one is not sub-01 of another.
  config.shared_labels = True

  config.simulate = ConfigDict()
  config.simulate.jobs = 0  # parallel subjects; 0: one for each core
  config.simulate.slab_mm = 60.0  # axial extent [ours]; 0: the whole brain
  # Scans to simulate, by name of the cohort; what is not set here is what
  # `config.study.cohorts` says.
  config.simulate.subjects = ConfigDict()
  # Subjects kept apart for testing (-1: all), in the same way.
  config.test_subjects = ConfigDict()

  config.patches = 'native'  # native [code] or resampled (0.5 x 0.5 x 2 mm)
  # What a network sees: swi [paper], then phase (which tells calcification
  # from blood), magnitude, or both; every scan has to have them.
  # Made of the SWI alone, so that every scan has them: wide (24 mm), mirror (the
  # other half of the brain), vessels and place (in MNI).
  config.channels = ('swi',)

  config.model = ConfigDict()
  # Main block of [code]; 47k is resnet_v1. Own ones: 'module:Net'.
  config.model.name = 'resnet_v4'
  config.model.convolution = 'auto'  # form of the 3-D convolution, by platform
  config.model.dtype = 'float32'  # of the layers; bfloat16 is for GPUs

  # Where candidates come from: frst [paper], learned, or your own stage.
  config.candidates = 'frst'

  config.strategies = ('7t', 'finetuned')  # those to report on
  config.tests = ('btumor_3t', 'ccm_3t')  # cohorts to report on
  # Weights of the strategy that others start from: 7t (bundled), or a folder
  # models/7t; train, or empty: train them first, once.
  config.pretrained = ''

  config.train = ConfigDict()
  config.train.folds = 5  # by subject [paper]
  config.train.seeds = (0,)  # repeats of every training [ours]
  config.train.epochs = 24  # [ours]; the precursor of the paper used 200
  config.train.finetune_epochs = 12  # [ours]
  config.train.batch = 16  # patches [ours]
  config.train.optimizer = 'adamw'  # Adam [paper]; or 'optax:lion', your own
  config.train.learning_rate = 1e-4  # [paper]
  config.train.min_learning_rate = 1e-6  # [paper]
  config.train.finetune_learning_rate = 1e-4  # [ours]
  # Of the rate: plateau [paper], constant, cosine, warmup_cosine, or your own.
  config.train.schedule = 'plateau'
  config.train.warmup = 0.05  # share of all steps, for warmup_cosine [ours]
  config.train.plateau_factor = 0.1  # [ours]
  config.train.plateau_patience = 4  # bad epochs before a cut [ours]
  config.train.plateau_min_delta = 1e-4  # smallest gain that counts [ours]
  config.train.stop_after = 0  # bad epochs before a replica stops; 0: never
  config.train.loss = 'cross_entropy'  # [code]; or your own
  config.train.positive_weight = 1.0  # weight of CMBs in the loss [ours]
  config.train.weight_decay = 0.0  # decoupled; 0 is plain Adam [paper]
  # Bias of the output at first: zero [code], or prior, the logit of the share
  # of microbleeds, so that the first steps silence no units of the head.
  config.train.output_bias = 'zero'
  # Flips, shift, turn: chen2018 [code]; with the look of other scanners beside
  # them: appearance [ours]; or your own.
  config.train.augmenter = 'chen2018'
  config.train.augmentation = 1.0  # strength: 1 as published [code]; 0 none
  # Layers that fine-tuning leaves as they are: a regular expression on names
  # such as stage_a/unit_0/conv_0/kernel; empty for none [paper].
  config.train.finetune_frozen = ''
  # loop, map, vmap, or shard over devices. On 2 CPU cores map is up to a sixth
  # quicker than auto (loop) at batch 16, and slower at 64.
  config.train.backend = 'auto'
  config.train.width = 0  # rows per call of map and vmap; 0: all
  config.train.data_parallel = 1  # devices that share a batch, with shard
  config.train.save_every_s = 10.0  # seconds between checkpoints [ours]
  config.train.bn_momentum = 0.99  # Keras' default [code]

  # Where scalars go beside the JSON lines: tensorboard, wandb, mlflow.
  config.writers = ()

  config.evaluation = ConfigDict()
  config.evaluation.threshold = 0.1  # CMB if the mean is above [paper]
  # Of `tests`: the cohort on which the operating points and the calibration of
  # the weights are chosen, such as scans of another kind; empty: the training
  # subjects, each judged by the networks that did not see it [ours].
  config.evaluation.points_from = ''
  config.evaluation.metrics = ()  # further ones of your own, 'module:name'
  config.evaluation.batch = 128  # patches
  # True: a likelihood is the mean over the eight mirror images of its patch,
  # which takes eight times as long [ours].
  config.evaluation.mirrored = False
  # Intervals over subjects: jackknife covers also with few test subjects
  # (benchmarks/coverage.py); results.csv holds those by bootstrap as well.
  config.evaluation.intervals = 'jackknife'  # or bootstrap [ours]
  config.evaluation.draws = 2000  # bootstrap draws over subjects [ours]
  config.evaluation.level = 0.95  # of the intervals

  if preset == 'paper':
    _paper_scale(config)
  return config


def _paper_scale(config: ConfigDict) -> None:
  """Whole heads and epochs of the paper; days on a CPU, made for GPUs."""
  config.simulate.slab_mm = 0.0
  config.train.epochs = 200  # the precursor of the paper, ISMRM 2018 #0432
  config.train.finetune_epochs = 200  # [ours]
  config.train.batch = 32
  config.train.plateau_patience = 10
