package oscar_test

import (
	"bytes"
	"testing"

	oscar "github.com/liboscar/liboscar/bindings/go"
)

// diagonal is [nKVHeads, headDim, headDim], with 1 + i/64 on the diagonal.
func diagonal() oscar.Tensor {
	x := make([]float32, nKVHeads*headDim*headDim)
	for head := range nKVHeads {
		for i := range headDim {
			x[(head*headDim+i)*headDim+i] = 1 + float32(i)/64
		}
	}
	return oscar.F32(x, nKVHeads, headDim, headDim)
}

func TestCalibrationsSurviveAFile(t *testing.T) {
	config := newConfig(t, "2bit")
	dataFree, err := oscar.DataFreeCalibration(config)
	must(t, err)
	identity, err := oscar.IdentityCalibration(config)
	must(t, err)
	given, err := oscar.NewCalibration([]oscar.CalibrationLayer{
		{KeyTransform: diagonal(), QueryMoment: diagonal(), ValueTransform: diagonal()},
	})
	must(t, err)
	keysOnly, err := oscar.NewCalibration([]oscar.CalibrationLayer{{KeyTransform: diagonal(), ValueDim: headDim}})
	must(t, err)

	seen := map[uint64]bool{}
	for _, c := range []*oscar.Calibration{dataFree, identity, given, keysOnly} {
		info, err := c.Info()
		must(t, err)
		if info.NLayers != 1 || info.Bytes <= 0 || info.IsDataFree != (c == dataFree) || info.IsShaped != (c == given) {
			t.Errorf("%+v", info)
		}
		if seen[info.Fingerprint] {
			t.Error("two calibrations have one fingerprint")
		}
		seen[info.Fingerprint] = true

		data, err := c.Save()
		must(t, err)
		loaded, err := oscar.LoadCalibration(data)
		must(t, err)
		again, err := loaded.Save()
		must(t, err)
		if !bytes.Equal(again, data) {
			t.Error("what was loaded is not what was saved")
		}
		data[len(data)/2] ^= 1
		_, err = oscar.LoadCalibration(data)
		wants(t, err, oscar.ErrCorrupt)
		must(t, loaded.Close())
		must(t, c.Close())
	}
	for _, data := range [][]byte{nil, {}, []byte("no calibration")} {
		_, err = oscar.LoadCalibration(data)
		wants(t, err, oscar.ErrCorrupt)
	}
}

func TestACacheUsesItsCalibration(t *testing.T) {
	x := randomTokens(41, 400)
	keys := func(calibration *oscar.Calibration) []float32 {
		config := newConfig(t, "2bit")
		config.Calibration = calibration
		cache := newCache(t, config)
		if calibration != nil {
			must(t, calibration.Close()) // the cache keeps what it needs
		}
		sequence := open(t, cache)
		run(t, cache, sequence, x, 40)
		k, _ := read(t, sequence)
		return k
	}
	config := newConfig(t, "2bit")
	dataFree, err := oscar.DataFreeCalibration(config)
	must(t, err)
	identity, err := oscar.IdentityCalibration(config)
	must(t, err)
	plain := keys(nil)
	equal(t, keys(dataFree), plain)
	other := keys(identity)
	for i := range other {
		if other[i] != plain[i] {
			return
		}
	}
	t.Fatal("codes in another basis give the same keys")
}

func TestCalibrationsThatAreNone(t *testing.T) {
	singular := oscar.F32(make([]float32, nKVHeads*headDim*headDim), nKVHeads, headDim, headDim)
	for name, layer := range map[string]oscar.CalibrationLayer{
		"singular":      {KeyTransform: singular, ValueDim: headDim},
		"not definite":  {KeyTransform: diagonal(), QueryMoment: singular, ValueDim: headDim},
		"no sizes":      {},
		"a wrong size":  {KeyTransform: diagonal(), ValueDim: headDim, KeyDim: 32},
		"a short slice": {KeyTransform: oscar.F32(make([]float32, 5), nKVHeads, headDim, headDim), ValueDim: headDim},
		"negative":      {KeyTransform: diagonal(), ValueDim: -5},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := oscar.NewCalibration([]oscar.CalibrationLayer{layer})
			wants(t, err, oscar.ErrInvalid)
		})
	}
	_, err := oscar.NewCalibration(nil)
	wants(t, err, oscar.ErrInvalid)
	config := newConfig(t, "2bit")
	config.NLayers = 0
	_, err = oscar.DataFreeCalibration(config)
	wants(t, err, oscar.ErrInvalid)
	_, err = oscar.IdentityCalibration(config)
	wants(t, err, oscar.ErrInvalid)
	config = newConfig(t, "2bit")
	config.NRecent = -7
	_, err = oscar.DataFreeCalibration(config)
	wants(t, err, oscar.ErrInvalid)
	_, err = oscar.IdentityCalibration(config)
	wants(t, err, oscar.ErrInvalid)
}

func TestCalibratorGivesAShapedCalibration(t *testing.T) {
	config := newConfig(t, "2bit")
	frequencies := make([]float32, headDim/2)
	calibrator, err := oscar.NewCalibrator(config, oscar.CalibratorArgs{
		RopePairing:     oscar.RopeInterleaved,
		ValueBasis:      oscar.ValueBasisHadamard,
		NPositions:      4096,
		RopeFrequencies: oscar.F32(frequencies),
	})
	must(t, err)
	_, err = calibrator.Finish()
	wants(t, err, oscar.ErrState) // fed nothing
	x := randomTokens(42, 600)
	for first := 0; first < x.n; first += 100 {
		args := x.slice(first, first+100).args(nil)
		must(t, calibrator.Feed(oscar.FeedArgs{FirstPosition: first, Q: args.Q, K: args.K, V: args.V}))
	}
	args := x.args(nil)
	wants(t, calibrator.Feed(oscar.FeedArgs{Layer: 1, Q: args.Q, K: args.K, V: args.V}), oscar.ErrInvalid)
	wants(t, calibrator.Feed(oscar.FeedArgs{FirstPosition: -1, Q: args.Q, K: args.K, V: args.V}), oscar.ErrInvalid)
	wants(t, calibrator.Feed(oscar.FeedArgs{Q: args.Q, K: args.K, V: oscar.F32(x.v[1:], 600, nKVHeads, headDim)}),
		oscar.ErrInvalid)
	calibration, err := calibrator.Finish()
	must(t, err)
	must(t, calibrator.Close())
	must(t, calibrator.Close())
	_, err = calibrator.Finish()
	wants(t, err, oscar.ErrState)
	wants(t, calibrator.Feed(oscar.FeedArgs{Q: args.Q, K: args.K, V: args.V}), oscar.ErrState)
	info, err := calibration.Info()
	must(t, err)
	if !info.IsShaped || info.IsDataFree {
		t.Fatalf("%+v", info)
	}
	config.Calibration = calibration
	cache := newCache(t, config)
	run(t, cache, open(t, cache), x, 60)

	_, err = oscar.NewCalibrator(config, oscar.CalibratorArgs{RopePairing: 9})
	wants(t, err, oscar.ErrInvalid)
	_, err = oscar.NewCalibrator(config, oscar.CalibratorArgs{ValueBasis: 9})
	wants(t, err, oscar.ErrInvalid)
	_, err = oscar.NewCalibrator(config, oscar.CalibratorArgs{NPositions: -1})
	wants(t, err, oscar.ErrInvalid)
}

func TestACacheCalibratesItself(t *testing.T) {
	config := newConfig(t, "2bit-plain")
	config.SelfCalibrate = &oscar.CalibratorArgs{
		NPositions:      4096,
		RopeFrequencies: oscar.F32(make([]float32, headDim/2)),
		Model:           "made up",
		Note:            "for a test",
	}
	report, err := oscar.Check(config, 300)
	must(t, err)
	if report.BytesSequences <= report.BytesSequencesFrozen || report.BytesFixedFrozen <= 0 {
		t.Errorf("%+v", report)
	}
	cache := newCache(t, config)
	_, err = cache.Freeze()
	wants(t, err, oscar.ErrState) // too few tokens
	x := randomTokens(43, 300)
	for i := range x.k { // keys of different sizes: where a calibration has something to say
		if i%8 == 3 {
			x.k[i] *= 8
		}
	}
	sequence := open(t, cache)
	run(t, cache, sequence, x, 60)
	stats, err := cache.Stats()
	must(t, err)
	if stats.State != oscar.CacheCollecting || stats.BytesFixed != report.BytesFixed || stats.NPackedTokens != 0 {
		t.Errorf("%+v", stats)
	}
	calibration, err := cache.Freeze()
	must(t, err)
	_, err = cache.Freeze()
	wants(t, err, oscar.ErrState)
	info, err := calibration.Info()
	must(t, err)
	stats, err = cache.Stats()
	must(t, err)
	if stats.State != oscar.CacheFrozen || stats.BytesCalibration != info.Bytes {
		t.Errorf("%+v", stats)
	}
	if info.Source != oscar.CalibrationCache || info.Model != "made up" || info.Note != "for a test" ||
		info.NPositions != 4096 || !info.KnowsRope || info.NHeads != nKVHeads || info.NDataFreeHeads != 0 ||
		info.Objective == "" || info.EndPosition == 0 || info.NTokens == 0 {
		t.Errorf("%+v", info)
	}
	run(t, cache, sequence, randomTokens(44, 300), 60)

	part, err := calibration.Slice([]oscar.CalibrationPart{{FirstKVHead: 1, NKVHeads: 1}})
	must(t, err)
	one, err := part.Head(0, 0)
	must(t, err)
	whole, err := calibration.Head(0, 1)
	must(t, err)
	if one != whole || !one.IsShaped || one.Fingerprint == 0 {
		t.Errorf("%+v, %+v", one, whole)
	}
	_, err = part.Head(0, 1)
	wants(t, err, oscar.ErrInvalid)
	_, err = part.Head(-1, 0)
	wants(t, err, oscar.ErrInvalid)
	_, err = calibration.Slice(nil)
	wants(t, err, oscar.ErrInvalid)
	_, err = calibration.Slice([]oscar.CalibrationPart{{Layer: -3, NKVHeads: 1}})
	wants(t, err, oscar.ErrInvalid)

	config.Calibration = calibration
	_, err = oscar.NewCache(config)
	wants(t, err, oscar.ErrInvalid) // one or the other
	config.Calibration = nil
	config.SelfCalibrate.NPositions = -1
	_, err = oscar.NewCache(config)
	wants(t, err, oscar.ErrInvalid)
	_, err = oscar.Check(config, 300)
	wants(t, err, oscar.ErrInvalid)
}

func TestImportRefusesWhatTorchDoesNotWrite(t *testing.T) {
	config := newConfig(t, "2bit")
	_, err := oscar.ImportTorchCalibration(config, oscar.ImportArgs{Keys: []byte("not a file of torch.save")})
	wants(t, err, oscar.ErrCorrupt)
	_, err = oscar.ImportTorchCalibration(config, oscar.ImportArgs{
		Values: []byte("x"), LayerIDs: []uint32{0, 1, oscar.NoLayer},
	})
	wants(t, err, oscar.ErrInvalid)
}
