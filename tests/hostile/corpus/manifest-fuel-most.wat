;; trick: as much fuel as may be asked for, and all of it used
;; end: quarantined out of fuel
(module
  (func (export "on_hit") (loop (br 0)))
  (@custom "trocar.manifest" "{\"abi\":1,\"name\":\"p\",\"limits\":{\"fuel\":10000000}}"))
