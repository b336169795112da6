;; trick: hash maps that are over 32 MiB together
;; end: refused maps
(module
  (func (export "on_hit") (nop))
  (@custom "trocar.manifest" "{\"abi\":1,\"name\":\"p\",\"maps\":[{\"name\":\"m0\",\"kind\":\"hash\",\"entries\":65536,\"key\":[{\"name\":\"k\",\"type\":\"str\",\"bytes\":256}]},{\"name\":\"m1\",\"kind\":\"hash\",\"entries\":65536,\"key\":[{\"name\":\"k\",\"type\":\"str\",\"bytes\":256}]},{\"name\":\"m2\",\"kind\":\"hash\",\"entries\":65536,\"key\":[{\"name\":\"k\",\"type\":\"str\",\"bytes\":256}]},{\"name\":\"m3\",\"kind\":\"hash\",\"entries\":65536,\"key\":[{\"name\":\"k\",\"type\":\"str\",\"bytes\":256}]}]}"))
