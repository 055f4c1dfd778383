# The protocols that this version of the client speaks: binary, and meta from 3.2 on.
require 'dalli'
require 'json'

def check(what)
  raise 'not as it should be' unless what
end

host, port = ARGV
newer = Gem::Version.new(Dalli::VERSION)
protocols = []
protocols << :binary if newer < Gem::Version.new('5')
protocols << :meta if newer >= Gem::Version.new('3.2')
protocols.each do |protocol|
  options = { socket_timeout: 20, value_max_bytes: 1 << 20, serializer: JSON }
  options[:protocol] = protocol if newer >= Gem::Version.new('3.2')
  c = Dalli::Client.new("#{host}:#{port}", options)
  key = ->(name) { "dalli:#{protocol}:#{name}" }
  c.set(key['k'], 'value', nil, raw: true)
  check c.get(key['k'], raw: true) == 'value'
  check !c.add(key['k'], 'other', nil, raw: true)
  check c.replace(key['k'], 'new', nil, raw: true)
  check c.append(key['k'], 'er') && c.prepend(key['k'], 'a ')
  check c.get(key['k'], raw: true) == 'a newer'
  c.set(key['o'], { 'a' => [1, 2] })
  check c.get(key['o']) == { 'a' => [1, 2] }
  check c.cas(key['o']) { |value| value.merge('b' => 3) }
  check c.get(key['o']) == { 'a' => [1, 2], 'b' => 3 }
  check c.incr(key['n'], 1, nil, 41) == 41 && c.incr(key['n'], 1) == 42 && c.decr(key['n'], 50) == 0
  c.multi { 300.times { |n| c.set(key[n], n.to_s, nil, raw: true) } }
  found = c.get_multi((0...300).map { |n| key[n] })
  check found.size == 300
  big = 'dalli' * 180_000
  c.set(key['big'], big, nil, raw: true)
  check c.get(key['big'], raw: true) == big
  check c.touch(key['k'], 100) && c.gat(key['k'], 100)
  check c.delete(key['k'])
  check c.get(key['k']).nil?
  check c.stats.values.first['curr_items'] && c.version.values.first
  c.close
end
puts "#{protocols.join(' and ')} (#{Dalli::VERSION}), 300 keys at once, values of 900 kB"
