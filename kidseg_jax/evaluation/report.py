"""What a run directory says, as tables and as one page; it reads files of that directory and nothing else.

stage_K/metrics.json, written by the stage shell (K from 1; a value that is undefined is null, never NaN):
  {"stage": K, "train_kidneys": n, "train_patients": n, "steps": n, "seconds": s,
   "test": [one record per held-out kidney and structure:
     {"case", "patient", "kidney": CASE_SIDE, "side", **the record of metrics.measure_kidney}],
   "labelling": [one record per newly labelled kidney and structure:
     {"case", "patient", "kidney", "structure", "manual_seconds", "corrected_seconds", "simulated":
     true|false,
      "voxels_added", "voxels_removed"}],
   "surfaces": [meshes.compare_kidney(...) per newly labelled kidney, one record per pair:
     {"case", "patient", "kidney", "pair": "manual_cnn"|"cnn_corrected"|"manual_corrected",
      "mode", "from", "to", "points", "seed", "rms_mm", "mean_mm", "max_mm", "within_2mm", ...}]}
stage_K/evidence/KIDNEY.npz, written by evidence.write_evidence: the CT and the label maps of one kidney's
region. run.json and ledger.jsonl are shown as they are; a key that is missing is left out.
"""
